// Products of fp32 activations with block-quantised weights that stay as small in memory as they are in a file.
//
//   y[m, n] = sum over blocks b of 32 columns:  scale[n, b] * s[m, b] * (codes[n, b] . q[m, b])
//                                               + minimum[n, b] * s[m, b] * sum q[m, b]
//
// Activations are rounded to int8 by blocks of 32, x = s q (or x = s q + s' q'). Sums inside a block are whole numbers, exact in
// any order; blocks are added in fp32, first to last, one fused multiply-add each. So a row of y depends on its own row of x
// alone: not on the other rows of the batch, nor on threads, nor on which of the instruction sets below is compiled in.
//
// Weights are packed (pack.py) in panels of R rows, one row per 32-bit lane of a register: a register of codes has four
// neighbouring columns (a quad) of R rows, which is what one dot-product instruction eats; memory is read strictly in order.
// Decoding a token is bound by that reading; a prompt is bound by arithmetic, so up to TILE rows share an unpacked register.

#pragma once

#include "threads.h"

namespace {

// ---- The formats: kinds.py says what the fields mean, in the same order.

enum Scale { HALF, BFLOAT, SUPER };
constexpr int8_t IQ4[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
constexpr int8_t FP4[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

template <int BITS_, int OFFSET_, Scale SCALE_ = HALF, bool MINIMUM_ = false, int GROUP_ = 32, const int8_t* TABLE_ = nullptr>
struct Kind {
  static constexpr int BITS = BITS_, OFFSET = OFFSET_, GROUP = GROUP_, GROUPS = 32 / GROUP_;
  static constexpr Scale SCALE = SCALE_;
  static constexpr bool MINIMUM = MINIMUM_;
  static constexpr const int8_t* TABLE = TABLE_;
  static constexpr bool SIGNED = BITS == 8 || TABLE != nullptr;
  static constexpr int DOT_BITS = SIGNED ? 8 : std::max(BITS, 4);  // how wide the numbers are that `dot` sees
  static constexpr int BIAS = SIGNED ? SIGN : OFFSET;  // what is taken off them, through the activations' sum
  static constexpr int BYTES = BITS * 4 * R;  // codes of R rows and 32 columns
};

struct Matrix {  // the same in native.py
  int32_t kind, columns;
  int64_t rows;
  const uint8_t* codes;
  const uint16_t *d, *m;
  const int8_t *sub, *submin;
};

template <class F> auto with_kind(int kind, F f) {
  switch (kind) {
    case 0: return f(Kind<8, 0>());
    case 1: return f(Kind<4, 8>());
    case 2: return f(Kind<4, 0, HALF, true>());
    case 3: return f(Kind<5, 16>());
    case 4: return f(Kind<5, 0, HALF, true>());
    case 5: return f(Kind<2, 0, SUPER, true, 16>());
    case 6: return f(Kind<3, 4, SUPER, false, 16>());
    case 7: return f(Kind<4, 0, SUPER, true>());
    case 8: return f(Kind<5, 0, SUPER, true>());
    case 9: return f(Kind<6, 32, SUPER, false, 16>());
    case 10: return f(Kind<4, 0, HALF, false, 32, IQ4>());
    case 11: return f(Kind<4, 0, SUPER, false, 32, IQ4>());
    case 12: return f(Kind<4, 0, BFLOAT, false, 32, FP4>());
    default: return f(Kind<2, 1>());
  }
}

// One panel as it is packed.
template <class K> struct Stream : K {
  static constexpr int L = 4 * R;
  const uint8_t* codes;
  const uint16_t *d, *m;
  const int8_t *sub, *submin;
  int8_t table[16] = {};

  Stream(const Matrix& w, int64_t p) {
    const int64_t blocks = w.columns / 32, supers = K::SCALE == SUPER ? blocks / 8 : blocks;
    codes = w.codes + p * blocks * K::BYTES;
    d = w.d + p * supers * R, m = w.m + p * supers * R;
    sub = w.sub + p * blocks * K::GROUPS * R, submin = w.submin + p * blocks * K::GROUPS * R;
    if constexpr (K::TABLE != nullptr)
      for (int i = 0; i < 16; i++) table[i] = (int8_t)(K::TABLE[i] + SIGN);
  }
  void fetch(int b) const {  // so far ahead that memory answers in time
    for (int at = 0; at < K::BYTES; at += 64) __builtin_prefetch(codes + (int64_t)b * K::BYTES + at + 2048);
  }
  // Quad J of block b: its low bits from one plane, its high bits from the next.
  template <int J> ALWAYS Codes quad(int b) const {
    const uint8_t* p = codes + (int64_t)b * K::BYTES;
    constexpr int low = K::BITS & 4, two = K::BITS & 2, one = K::BITS & 1;
    if constexpr (K::BITS == 8) return SIGN ? flip(load(p + J * L)) : load(p + J * L);
    Codes v{};
    if constexpr (low != 0) v = field<J / 4 * 4, 0, 4>(load(p + J % 4 * L));
    if constexpr (two != 0) {
      Codes t = field<J / 2 * 2, low, 2>(load(p + (low + J % 2) * L));
      v = low ? merge(v, t) : t;
    }
    if constexpr (one != 0) v = merge(v, field<J, low + two, 1>(load(p + (low + two) * L)));
    if constexpr (K::TABLE != nullptr) v = lookup(table, v);
    return v;
  }
  ALWAYS Floats scale(int b, int g) const {
    const int s = (K::SCALE == SUPER ? b / 8 : b) * R;
    const Floats outer = K::SCALE == BFLOAT ? bfloats(d + s) : halves(d + s);
    return K::SCALE == SUPER ? mul(outer, bytes(sub + (b * K::GROUPS + g) * R)) : outer;
  }
  ALWAYS Floats minimum(int b, int g) const {
    if constexpr (K::SCALE != SUPER) return halves(m + b * R);
    return mul(mul(halves(m + b / 8 * R), all(-1.f)), bytes(submin + (b * K::GROUPS + g) * R));
  }
};

// Activations as whole numbers. Rows are cut into tiles (see `tile`); tile by tile: for every block, the numbers of all its rows.
// With two terms, x = s q + s' q': what rounding left over is rounded again, and follows in the second half of every array.
struct Activations {
  std::vector<int8_t> q;      // terms x rows x K
  std::vector<float> scale;   // terms x rows x K / 32
  std::vector<float> mass;    // terms x rows x K / GROUP: scale * sum of q, for minima
  std::vector<int32_t> bias;  // terms x rows x K / GROUP: -BIAS * sum of q, where a dot product starts
  int64_t rows;
  int terms;
};

// How many of the `left` rows go together next.
inline int tile(int64_t left) { return left >= TILE ? TILE : left >= 8 && TILE > 8 ? 8 : left >= 4 && TILE > 4 ? 4 : 1; }

// One block of a row: 32 numbers to q, their sums by 16 to `sums`, the scale returned; `rest` becomes what was lost. The largest
// magnitude becomes 127. A block with an infinity or a NaN gets the scale NaN, which spreads to every output of the row; one
// whose magnitudes are next to nothing counts as zeros.
inline float quantize_block(const float* x, int8_t* q, int* sums, float* rest) {
  uint32_t bits[32], top = 0;
  std::memcpy(bits, x, sizeof bits);
  for (int k = 0; k < 32; k++) top = std::max(top, bits[k] & 0x7fffffff);  // as whole numbers, floats keep their order
  const float most = from_bits(top);
  sums[0] = sums[1] = 0;
  if (top >= 0x7f800000 || most <= 1e-30f) {
    std::memset(q, 0, 32);
    std::memcpy(rest, x, sizeof bits);
    return top < 0x7f800000 ? 0.f : NAN;
  }
  const float inverse = 127.f / most, scale = most / 127.f;
  for (int g = 0; g < 2; g++)
    for (int k = 16 * g; k < 16 * g + 16; k++) {
      const float moved = x[k] * inverse + 12582912.f;  // + 1.5 * 2^23: the nearest whole number (ties to even) in the low bits
      uint32_t whole;
      std::memcpy(&whole, &moved, 4);
      const int v = (int)whole - 0x4b400000;
      q[k] = (int8_t)v;
      sums[g] += v;
      rest[k] = x[k] - scale * (float)v;
    }
  return scale;
}

// Row i of a tile of `width` that starts at row `start`.
template <int GROUPS> void quantize(const float* x, int blocks, int64_t start, int width, int i, int offset, Activations& a) {
  float lost[2][32];
  for (int b = 0; b < blocks; b++, x += 32)
    for (int term = 0; term < a.terms; term++) {
      const int64_t at = (term * a.rows + start) * blocks + (int64_t)b * width + i;
      int sums[2];
      a.scale[at] = quantize_block(term ? lost[0] : x, &a.q[at * 32], sums, lost[term]);
      if (GROUPS == 1) sums[0] += sums[1];
      for (int g = 0; g < GROUPS; g++) {
        a.bias[at * GROUPS + g] = -offset * sums[g];
        a.mass[at * GROUPS + g] = a.scale[at] * (float)sums[g];
      }
    }
}

// One panel times a tile of M rows: y + i * stride gets R numbers (or the `left` that there are).
template <int M, class W>
void product(const W& w, int blocks, const Activations& a, int64_t start, float* y, int64_t stride, int64_t left) {
  constexpr int G = W::GROUPS, N = 8 / G;  // N quads of a group
  Floats sum[M];
  UNROLL for (int i = 0; i < M; i++) sum[i] = zero();
  for (int b = 0; b < blocks; b++) {
    if constexpr (M == 1) w.fetch(b);
    repeat<G>([&](auto g) ALWAYS_LAMBDA {
      Codes c[N];
      repeat<N>([&](auto j) ALWAYS_LAMBDA { c[j] = w.template quad<g * N + j>(b); });
      const Floats scale = w.scale(b, g);
      Floats minimum = zero();
      if constexpr (W::MINIMUM) minimum = w.minimum(b, g);
      for (int term = 0; term < a.terms; term++) {
        const int64_t at = (term * a.rows + start) * blocks + (int64_t)b * M;
        const int8_t* q = &a.q[at * 32 + 4 * N * g];
        const float *s = &a.scale[at], *mass = &a.mass[at * G + g];
        const int32_t* bias = &a.bias[at * G + g];
        UNROLL for (int i = 0; i < M; i++) {
          sum[i] = fma(floats(dot<W::DOT_BITS, N>(c, q + 32 * i, bias[G * i])), mul(scale, all(s[i])), sum[i]);
          if constexpr (W::MINIMUM) sum[i] = fma(minimum, all(mass[G * i]), sum[i]);
        }
      }
    });
  }
  UNROLL for (int i = 0; i < M; i++) {
    if (left >= R) {
      store(y + i * stride, sum[i]);
    } else {
      float last[R];
      store(last, sum[i]);
      std::memcpy(y + i * stride, last, left * sizeof(float));
    }
  }
}

template <class K> void multiply(const Matrix& w, const float* x, int64_t rows, int terms, float* y, int threads) {
  thread_local Activations mine;
  Activations& a = mine;  // the caller's, for the helpers too
  const int blocks = w.columns / 32;
  const size_t size = (size_t)terms * rows * blocks;
  a.rows = rows, a.terms = terms;
  a.q.resize(size * 32), a.scale.resize(size), a.mass.resize(size * K::GROUPS), a.bias.resize(size * K::GROUPS);
  parallel(threads, (int)((rows + TILE - 1) / TILE), [&](int piece) {
    const int64_t end = std::min<int64_t>(rows, (int64_t)(piece + 1) * TILE);
    for (int64_t t = (int64_t)piece * TILE; t < end; t += tile(end - t))
      for (int i = 0; i < tile(end - t); i++) quantize<K::GROUPS>(x + (t + i) * w.columns, blocks, t, tile(end - t), i, K::BIAS, a);
  });
  // Pieces of at least 32 kB of codes, or so much more arithmetic: long against a hand-over. At most 16 for each thread: long
  // stretches of memory are read faster.
  const int64_t panels = (w.rows + R - 1) / R, bytes = (int64_t)blocks * K::BYTES * rows * terms;
  const int64_t each = std::max<int64_t>({1, 32768 / bytes, panels / (16 * threads)});
  parallel(threads, (int)((panels + each - 1) / each), [&](int piece) {
    for (int64_t p = piece * each; p < std::min(panels, (piece + 1) * each); p++) {
      const int64_t left = w.rows - p * R;
      const Stream<K> stream(w, p);
      for (int64_t t = 0; t < rows; t += tile(rows - t)) {
        float* out = y + t * w.rows + p * R;
        switch (tile(rows - t)) {
          case 1: product<1>(stream, blocks, a, t, out, w.rows, left); break;
          case 4: product<4>(stream, blocks, a, t, out, w.rows, left); break;
          case 8: product<std::min(TILE, 8)>(stream, blocks, a, t, out, w.rows, left); break;
          default: product<TILE>(stream, blocks, a, t, out, w.rows, left);
        }
      }
    }
  });
}

// One row of weights as floats, by the definition (the tests compare it with the format's reference, bit for bit).
template <class K> void expand(const Matrix& w, int64_t row, float* out) {
  const int blocks = w.columns / 32, supers = K::SCALE == SUPER ? w.columns / 256 : blocks;
  const int64_t p = row / R, lane = row % R;
  for (int b = 0; b < blocks; b++) {
    const uint8_t* codes = w.codes + (p * blocks + b) * K::BYTES + lane * 4;
    const int64_t s = (p * supers + (K::SCALE == SUPER ? b / 8 : b)) * R + lane;
    const float d = K::SCALE == BFLOAT ? from_bfloat(w.d[s]) : from_half(w.d[s]);
    for (int i = 0; i < 32; i++) {
      const int j = i / 4, L = 4 * R;
      const uint8_t* at = codes + i % 4;
      int code = 0, value;
      if constexpr (K::BITS == 8) code = at[j * L];
      if constexpr ((K::BITS & 4) != 0) code = at[j % 4 * L] >> (j / 4 * 4) & 15;
      if constexpr ((K::BITS & 2) != 0) code |= (at[((K::BITS & 4) + j % 2) * L] >> (j / 2 * 2) & 3) << (K::BITS & 4);
      if constexpr ((K::BITS & 1) != 0) code |= (at[(K::BITS & 6) * L] >> j & 1) << (K::BITS & 6);
      if constexpr (K::TABLE != nullptr) value = K::TABLE[code];
      else value = K::BITS == 8 ? (int8_t)code : code - K::OFFSET;
      const int64_t g = ((p * blocks + b) * K::GROUPS + i / K::GROUP) * R + lane;
      float v = (K::SCALE == SUPER ? d * (float)w.sub[g] : d) * (float)value;
      if constexpr (K::MINIMUM)
        v = K::SCALE == SUPER ? v - from_half(w.m[s]) * (float)w.submin[g] : v + from_half(w.m[s]);
      out[b * 32 + i] = v;
    }
  }
}

}  // namespace
