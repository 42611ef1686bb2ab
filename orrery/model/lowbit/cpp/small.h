// The small operations between two products. Each row, or number, is computed by itself.

#pragma once

#include "dense.h"

namespace {

// Rows of about 16,000 numbers a piece.
template <class F> void by_rows(int threads, int64_t rows, int64_t width, F f) {
  const int64_t each = std::max<int64_t>(1, 16384 / std::max<int64_t>(1, width));
  parallel(threads, (int)((rows + each - 1) / each), [&](int piece) {
    for (int64_t r = piece * each; r < std::min(rows, (piece + 1) * each); r++) f(r);
  });
}

// out = x / sqrt(mean x^2 + eps) * (offset + weight), row by row. Squares are summed in 16 lanes, so in one fixed order.
inline void rms_norm(
    const float* x, const float* weight, float eps, float offset, int64_t rows, int64_t width, float* out, int threads) {
  by_rows(threads, rows, width, [&](int64_t r) {
    const float* in = x + r * width;
    float lanes[16] = {}, sum = 0;
    int64_t i = 0;
    for (; i + 16 <= width; i += 16)
      for (int k = 0; k < 16; k++) lanes[k] += in[i + k] * in[i + k];
    for (; i < width; i++) lanes[i % 16] += in[i] * in[i];
    for (float lane : lanes) sum += lane;
    const float scale = 1.f / std::sqrt(sum / (float)width + eps);
    float* to = out + r * width;
    for (int64_t k = 0; k < width; k++) to[k] = in[k] * scale * (offset + weight[k]);
  });
}

// out = (x - mean) / sqrt(variance + eps) * weight + bias, row by row; weight and bias may be null. Sums in 16 lanes.
inline void layer_norm(
    const float* x, const float* weight, const float* bias, float eps, int64_t rows, int64_t width, float* out, int threads) {
  by_rows(threads, rows, width, [&](int64_t r) {
    const float* in = x + r * width;
    float lanes[16] = {}, sum = 0, squares = 0;
    for (int64_t i = 0; i < width; i++) lanes[i % 16] += in[i];
    for (float& lane : lanes) sum += lane, lane = 0;
    const float mean = sum / (float)width;
    for (int64_t i = 0; i < width; i++) lanes[i % 16] += (in[i] - mean) * (in[i] - mean);
    for (float lane : lanes) squares += lane;
    const float scale = 1.f / std::sqrt(squares / (float)width + eps);
    float* to = out + r * width;
    for (int64_t k = 0; k < width; k++) to[k] = (in[k] - mean) * scale * (weight ? weight[k] : 1.f) + (bias ? bias[k] : 0.f);
  });
}

// out (count, width): rows of a table.
inline void gather(const float* table, const int64_t* ids, int64_t count, int64_t width, float* out, int threads) {
  by_rows(threads, count, width, [&](int64_t r) { std::copy(table + ids[r] * width, table + (ids[r] + 1) * width, out + r * width); });
}

// cosine, sine (tokens, half): of position * frequency, times a factor.
inline void rotary(
    const int64_t* positions, const float* frequencies, float factor, int64_t tokens, int64_t half, float* cosine, float* sine,
    int threads) {
  by_rows(threads, tokens, 32 * half, [&](int64_t t) {
    for (int64_t i = 0; i < half; i++) {
      const float angle = (float)positions[t] * frequencies[i];
      cosine[t * half + i] = std::cos(angle) * factor;
      sine[t * half + i] = std::sin(angle) * factor;
    }
  });
}

// Turns the pairs (i, i + half) of every head: x, out (tokens, heads, width); cosine, sine (tokens, half). The rest is copied.
inline void rope(
    const float* x, const float* cosine, const float* sine, int64_t tokens, int64_t heads, int64_t width, int64_t half,
    float* out, int threads) {
  by_rows(threads, tokens, heads * width, [&](int64_t t) {
    for (int64_t h = 0; h < heads; h++) {
      const float *a = x + (t * heads + h) * width, *b = a + half, *c = cosine + t * half, *s = sine + t * half;
      float *to_a = out + (t * heads + h) * width, *to_b = to_a + half;
      for (int64_t i = 0; i < half; i++) to_a[i] = a[i] * c[i] - b[i] * s[i];
      for (int64_t i = 0; i < half; i++) to_b[i] = b[i] * c[i] + a[i] * s[i];
      std::copy(a + 2 * half, a + width, to_a + 2 * half);
    }
  });
}

// out = x + scale * y
inline void add(const float* x, const float* y, float scale, int64_t n, float* out, int threads) {
  by_rows(threads, (n + 511) / 512, 512, [&](int64_t r) {
    const int64_t end = std::min(n, r * 512 + 512);
    if (scale == 1.f)
      for (int64_t i = r * 512; i < end; i++) out[i] = x[i] + y[i];
    else
      for (int64_t i = r * 512; i < end; i++) out[i] = x[i] + scale * y[i];
  });
}

// out = x + bias, the same for every row
inline void add_bias(const float* x, const float* bias, int64_t rows, int64_t width, float* out, int threads) {
  by_rows(threads, rows, width, [&](int64_t r) {
    for (int64_t i = 0; i < width; i++) out[r * width + i] = x[r * width + i] + bias[i];
  });
}

// out = scale * x
inline void scaled(const float* x, float scale, int64_t n, float* out, int threads) {
  by_rows(threads, (n + 511) / 512, 512, [&](int64_t r) {
    for (int64_t i = r * 512, end = std::min(n, i + 512); i < end; i++) out[i] = scale * x[i];
  });
}

// out = cap * tanh(x / cap)
inline void soft_capped(const float* x, float cap, int64_t n, float* out, int threads) {
  by_rows(threads, (n + 511) / 512, 512, [&](int64_t r) {
    for (int64_t i = r * 512, end = std::min(n, i + 512); i < end; i++) out[i] = cap * hyperbolic_tangent(x[i] / cap);
  });
}

inline float largest(const float* x, int64_t n) {
  float lanes[16], most = -INFINITY;
  std::fill(lanes, lanes + 16, -INFINITY);
  int64_t i = 0;
  for (; i + 16 <= n; i += 16)
    for (int k = 0; k < 16; k++) lanes[k] = x[i + k] > lanes[k] ? x[i + k] : lanes[k];
  for (; i < n; i++) most = x[i] > most ? x[i] : most;
  for (float lane : lanes) most = lane > most ? lane : most;
  return most;
}

// The first place of the largest number.
inline void likeliest(const float* x, int64_t n, int64_t* place, int threads) {
  constexpr int64_t EACH = 16384;
  std::vector<float> most((n + EACH - 1) / EACH);
  parallel(threads, (int)most.size(), [&](int p) { most[p] = largest(x + p * EACH, std::min(EACH, n - p * EACH)); });
  const int64_t first = std::max_element(most.begin(), most.end()) - most.begin();
  *place = std::find(x + first * EACH, x + std::min(n, (first + 1) * EACH), most[first]) - x;
}

// Whether all numbers are finite: then nothing times any of them is nothing.
inline void finite(const float* x, int64_t n, int64_t* all, int threads) {
  constexpr int64_t EACH = 16384;
  std::atomic<bool> sound{true};
  parallel(threads, (int)((n + EACH - 1) / EACH), [&](int p) {
    float lanes[16] = {};
    int64_t i = p * EACH;
    const int64_t end = std::min(n, i + EACH);
    for (; i + 16 <= end; i += 16)
      for (int k = 0; k < 16; k++) lanes[k] += 0.f * x[i + k];
    for (; i < end; i++) lanes[0] += 0.f * x[i];
    for (float lane : lanes)
      if (lane != 0.f) sound = false;
  });
  *all = sound;
}

enum Activation { RELU, RELU2, GELU, GELU_TANH, SILU };

template <int A> ALWAYS float activated(float x) {
  if constexpr (A == RELU) return std::max(x, 0.f);
  if constexpr (A == RELU2) return std::max(x, 0.f) * std::max(x, 0.f);
  if constexpr (A == GELU) return 0.5f * x * (1.f + std::erf(x * 0.70710678f));
  if constexpr (A == GELU_TANH) return 0.5f * x * (1.f + hyperbolic_tangent(0.79788456f * (x + 0.044715f * x * x * x)));
  return x / (1.f + exponential(-x));
}

// out = activation(gate) * up, or the activation alone where up is null
inline void gated(int activation, const float* gate, const float* up, int64_t n, float* out, int threads) {
  const auto run = [&](auto kind) {
    constexpr int A = decltype(kind)::value;
    by_rows(threads, (n + 511) / 512, 512, [&](int64_t r) {
      const int64_t first = r * 512, end = std::min(n, first + 512);
      for (int64_t i = first; i < end; i++) out[i] = activated<A>(gate[i]);
      if (up)
        for (int64_t i = first; i < end; i++) out[i] *= up[i];
    });
  };
  switch (activation) {
    case RELU: return run(std::integral_constant<int, RELU>());
    case RELU2: return run(std::integral_constant<int, RELU2>());
    case GELU: return run(std::integral_constant<int, GELU>());
    case GELU_TANH: return run(std::integral_constant<int, GELU_TANH>());
    default: return run(std::integral_constant<int, SILU>());
  }
}

}  // namespace
