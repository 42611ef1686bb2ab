// Products of rows of floats. A product of two rows is summed in R lanes, first column to last, and the lanes in one fixed order:
// it is the same number however many rows are multiplied at once, in whatever tile, by whatever thread.

#pragma once

#include "threads.h"

namespace {

// The R numbers at p, or the `left` that there are and zeros.
inline Floats part(const float* p, int64_t left) {
  float rest[R] = {};
  std::memcpy(rest, p, left * sizeof(float));
  return lanes(rest);
}

// out[i * stride + j] = a[i] . b[j] over n columns
template <int A, int B>
ALWAYS void dots(const float* const* a, const float* const* b, int64_t n, float* out, int64_t stride) {
  Floats sum[A * B];
  UNROLL for (int i = 0; i < A * B; i++) sum[i] = zero();
  int64_t k = 0;
  for (; k + R <= n; k += R) {
    Floats y[B];
    UNROLL for (int j = 0; j < B; j++) y[j] = lanes(b[j] + k);
    UNROLL for (int i = 0; i < A; i++) {
      const Floats x = lanes(a[i] + k);
      UNROLL for (int j = 0; j < B; j++) sum[i * B + j] = fma(x, y[j], sum[i * B + j]);
    }
  }
  if (k < n)
    for (int i = 0; i < A; i++)
      for (int j = 0; j < B; j++) sum[i * B + j] = fma(part(a[i] + k, n - k), part(b[j] + k, n - k), sum[i * B + j]);
  UNROLL for (int i = 0; i < A; i++) UNROLL for (int j = 0; j < B; j++) out[i * stride + j] = total(sum[i * B + j]);
}

// All products of `rows` rows with `columns` rows.
inline void all_dots(
    const float* const* a, int64_t rows, const float* const* b, int64_t columns, int64_t n, float* out, int64_t stride) {
  for (int64_t j = 0; j < columns; j += 4) {
    const bool four = columns - j >= 4;
    int64_t i = 0;
    if (four)
      for (; i + 4 <= rows; i += 4) dots<4, 4>(a + i, b + j, n, out + i * stride + j, stride);
    for (; i < rows; i++) {
      if (four) dots<1, 4>(a + i, b + j, n, out + i * stride + j, stride);
      else
        for (int64_t l = j; l < columns; l++) dots<1, 1>(a + i, b + l, n, out + i * stride + l, stride);
    }
  }
}

// y (rows, outputs) = x (rows, n) times w (outputs, n), transposed, plus bias where there is one.
inline void linear(
    const float* x, const float* w, const float* bias, int64_t rows, int64_t outputs, int64_t n, float* y, int threads) {
  // A piece is a strip of weights small enough for a second-level cache, which all rows of x then meet.
  const int64_t each = std::max<int64_t>(4, std::min<int64_t>(outputs / (4 * threads) + 1, 131072 / n) / 4 * 4);
  parallel(threads, (int)((outputs + each - 1) / each), [&](int piece) {
    const int64_t first = piece * each, count = std::min(each, outputs - first);
    std::vector<const float*> b(count), a(std::min<int64_t>(rows, 64));
    for (int64_t j = 0; j < count; j++) b[j] = w + (first + j) * n;
    for (int64_t t = 0; t < rows; t += 64) {
      const int64_t m = std::min<int64_t>(64, rows - t);
      for (int64_t i = 0; i < m; i++) a[i] = x + (t + i) * n;
      float* out = y + t * outputs + first;
      all_dots(a.data(), m, b.data(), count, n, out, outputs);
      if (bias)
        for (int64_t i = 0; i < m; i++)
          for (int64_t j = 0; j < count; j++) out[i * outputs + j] += bias[first + j];
    }
  });
}

// e^x within 2 units in the last place; written so that the compiler makes vectors of it.
ALWAYS float exponential(float x) {
  x = std::min(std::max(x, -87.f), 88.f);
  const float moved = x * 1.44269504f + 12582912.f, n = moved - 12582912.f;  // the nearest whole number of halvings
  const float r = x - n * 0.693359375f - n * -2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.f;
  uint32_t bits;
  std::memcpy(&bits, &moved, 4);
  return p * from_bits((bits - 0x4b400000u + 127u) << 23);
}
ALWAYS float hyperbolic_tangent(float x) {
  if (x * x < 0.01f) return x - x * x * x * (1.f / 3.f) + x * x * x * x * x * (2.f / 15.f);  // where 1 - 2 / (...) loses digits
  return 1.f - 2.f / (exponential(2.f * x) + 1.f);
}

}  // namespace
