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
//
// One kernel, written once over a dozen small functions; the first part defines those for AVX-512 VNNI, AVX2 (with and without
// VNNI), NEON and plain C++.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>
#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#elif defined(__ARM_FEATURE_DOTPROD)
#include <arm_neon.h>
#endif
#if defined(__unix__) || defined(__APPLE__)
#include <unistd.h>
#endif

#if defined(__GNUC__)
#define ALWAYS inline __attribute__((always_inline))
#define ALWAYS_LAMBDA __attribute__((always_inline))
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif
#else
#define ALWAYS inline
#define ALWAYS_LAMBDA
#define UNROLL
#endif

namespace {

using std::uint16_t;
using std::uint8_t;

inline uint32_t four(const int8_t* p) { uint32_t v; std::memcpy(&v, p, 4); return v; }
inline float from_bits(uint32_t v) { float f; std::memcpy(&f, &v, 4); return f; }
inline float from_bfloat(uint16_t v) { return from_bits((uint32_t)v << 16); }
inline float from_half(uint16_t v) {
  uint32_t sign = (uint32_t)(v & 0x8000) << 16, rest = v & 0x7fff;
  if (rest >= 0x7c00) return from_bits(sign | 0x7f800000 | (rest & 0x3ff) << 13);
  float size = rest < 0x400 ? (float)rest * 0x1p-24f : from_bits((rest << 13) + (112u << 23));
  return sign ? -size : size;
}

// f(0), f(1) ... f(N - 1), unrolled, so that arrays indexed by the argument live in registers.
template <class F, int... I> ALWAYS void repeat(F&& f, std::integer_sequence<int, I...>) {
  (f(std::integral_constant<int, I>()), ...);
}
template <int N, class F> ALWAYS void repeat(F&& f) { repeat(f, std::make_integer_sequence<int, N>()); }

// ---- Instruction sets. Codes: 4 R bytes. Ints, Floats: R lanes.
//   field<from, place, width>(v)   bits from.. of every byte, moved to bit `place`
//   dot<BITS, QUADS>(w, a, start)  start + sum over quads of w[j] . a[4 j .. 4 j + 3]
//   SIGN                           what is added to an 8-bit code (or table entry) so that `dot` may take it as unsigned

#if defined(__AVX512VNNI__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#define ISA "avx512-vnni"
constexpr int R = 16, TILE = 16;
constexpr int SIGN = 128;  // vpdpbusd multiplies unsigned by signed bytes
using Codes = __m512i;
using Ints = __m512i;
using Floats = __m512;
inline Codes load(const uint8_t* p) { return _mm512_loadu_si512(p); }
inline Codes merge(Codes a, Codes b) { return _mm512_or_si512(a, b); }
inline Codes flip(Codes v) { return _mm512_xor_si512(v, _mm512_set1_epi8((char)128)); }
template <int FROM, int PLACE, int WIDTH> inline Codes field(Codes v) {
  if constexpr (FROM > PLACE) v = _mm512_srli_epi16(v, FROM - PLACE);
  if constexpr (FROM < PLACE) v = _mm512_slli_epi16(v, PLACE - FROM);
  return _mm512_and_si512(v, _mm512_set1_epi8((char)(((1 << WIDTH) - 1) << PLACE)));
}
inline Codes lookup(const int8_t* table, Codes v) {
  return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i*)table)), v);
}
template <int BITS, int QUADS> inline Ints dot(const Codes* w, const int8_t* a, int start) {
  Ints sum = _mm512_set1_epi32(start);
  for (int j = 0; j < QUADS; j++) sum = _mm512_dpbusd_epi32(sum, w[j], _mm512_set1_epi32((int)four(a + 4 * j)));
  return sum;
}
inline Floats zero() { return _mm512_setzero_ps(); }
inline Floats all(float v) { return _mm512_set1_ps(v); }
inline Floats floats(Ints v) { return _mm512_cvtepi32_ps(v); }
inline Floats halves(const uint16_t* p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p)); }
inline Floats bfloats(const uint16_t* p) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)p)), 16));
}
inline Floats bytes(const int8_t* p) {
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i*)p)));
}
inline Floats mul(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
inline Floats fma(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
inline void store(float* p, Floats v) { _mm512_storeu_ps(p, v); }

#elif defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
constexpr int R = 8, TILE = 8;
using Codes = __m256i;
using Ints = __m256i;
using Floats = __m256;
inline Codes load(const uint8_t* p) { return _mm256_loadu_si256((const __m256i*)p); }
inline Codes merge(Codes a, Codes b) { return _mm256_or_si256(a, b); }
inline Codes flip(Codes v) { return _mm256_xor_si256(v, _mm256_set1_epi8((char)128)); }
template <int FROM, int PLACE, int WIDTH> inline Codes field(Codes v) {
  if constexpr (FROM > PLACE) v = _mm256_srli_epi16(v, FROM - PLACE);
  if constexpr (FROM < PLACE) v = _mm256_slli_epi16(v, PLACE - FROM);
  return _mm256_and_si256(v, _mm256_set1_epi8((char)(((1 << WIDTH) - 1) << PLACE)));
}
inline Codes lookup(const int8_t* table, Codes v) {
  return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i*)table)), v);
}
#if defined(__AVXVNNI__) || (defined(__AVX512VNNI__) && defined(__AVX512VL__))
#define ISA "avx2-vnni"
constexpr int SIGN = 128;
template <int BITS, int QUADS> inline Ints dot(const Codes* w, const int8_t* a, int start) {
  Ints sum = _mm256_set1_epi32(start);
  for (int j = 0; j < QUADS; j++) {
#if defined(__AVXVNNI__)
    sum = _mm256_dpbusd_avx_epi32(sum, w[j], _mm256_set1_epi32((int)four(a + 4 * j)));
#else
    sum = _mm256_dpbusd_epi32(sum, w[j], _mm256_set1_epi32((int)four(a + 4 * j)));
#endif
  }
  return sum;
}
#else
#define ISA "avx2"
constexpr int SIGN = 0;  // pairs of products saturate at 16 bits: an 8-bit code lends its sign to the activation
template <int BITS, int QUADS> inline Ints dot(const Codes* w, const int8_t* a, int start) {
  // How many pairs of products fit into 16 bits: 8 of 2 * 15 * 127, 4 of 2 * 31 * 127, 2 of 2 * 63 * 127, 1 of 2 * 128 * 127.
  constexpr int FIT = std::min(QUADS, BITS <= 4 ? 8 : BITS == 5 ? 4 : BITS == 6 ? 2 : 1);
  Ints sum = _mm256_set1_epi32(start);
  repeat<QUADS / FIT>([&](auto part) ALWAYS_LAMBDA {
    Codes pairs = _mm256_setzero_si256();
    repeat<FIT>([&](auto i) ALWAYS_LAMBDA {
      constexpr int j = part * FIT + i;
      Codes x = _mm256_set1_epi32((int)four(a + 4 * j)), u = w[j];
      if constexpr (BITS == 8) x = _mm256_sign_epi8(x, u), u = _mm256_abs_epi8(u);
      pairs = i == 0 ? _mm256_maddubs_epi16(u, x) : _mm256_add_epi16(pairs, _mm256_maddubs_epi16(u, x));
    });
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  });
  return sum;
}
#endif
inline Floats zero() { return _mm256_setzero_ps(); }
inline Floats all(float v) { return _mm256_set1_ps(v); }
inline Floats floats(Ints v) { return _mm256_cvtepi32_ps(v); }
inline Floats halves(const uint16_t* p) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p)); }
inline Floats bfloats(const uint16_t* p) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)p)), 16));
}
inline Floats bytes(const int8_t* p) {
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i*)p)));
}
inline Floats mul(Floats a, Floats b) { return _mm256_mul_ps(a, b); }
inline Floats fma(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }
inline void store(float* p, Floats v) { _mm256_storeu_ps(p, v); }

#elif defined(__ARM_FEATURE_DOTPROD)
#define ISA "neon-dotprod"
constexpr int R = 4, TILE = 4;
constexpr int SIGN = 0;
using Codes = uint8x16_t;
using Ints = int32x4_t;
using Floats = float32x4_t;
inline Codes load(const uint8_t* p) { return vld1q_u8(p); }
inline Codes merge(Codes a, Codes b) { return vorrq_u8(a, b); }
inline Codes flip(Codes v) { return veorq_u8(v, vdupq_n_u8(128)); }
template <int FROM, int PLACE, int WIDTH> inline Codes field(Codes v) {
  if constexpr (FROM > PLACE) v = vshrq_n_u8(v, FROM - PLACE);
  if constexpr (FROM < PLACE) v = vshlq_n_u8(v, PLACE - FROM);
  return vandq_u8(v, vdupq_n_u8((uint8_t)(((1 << WIDTH) - 1) << PLACE)));
}
inline Codes lookup(const int8_t* table, Codes v) {
  return vreinterpretq_u8_s8(vqtbl1q_s8(vld1q_s8(table), v));
}
template <int BITS, int QUADS> inline Ints dot(const Codes* w, const int8_t* a, int start) {
  Ints sum = vdupq_n_s32(start);
  for (int j = 0; j < QUADS; j++)
    sum = vdotq_s32(sum, vreinterpretq_s8_u8(w[j]), vreinterpretq_s8_u32(vdupq_n_u32(four(a + 4 * j))));
  return sum;
}
inline Floats zero() { return vdupq_n_f32(0); }
inline Floats all(float v) { return vdupq_n_f32(v); }
inline Floats floats(Ints v) { return vcvtq_f32_s32(v); }
inline Floats halves(const uint16_t* p) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p))); }
inline Floats bfloats(const uint16_t* p) { return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16)); }
inline Floats bytes(const int8_t* p) {
  int8x8_t v = vreinterpret_s8_u32(vdup_n_u32(four(p)));
  return vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(v))));
}
inline Floats mul(Floats a, Floats b) { return vmulq_f32(a, b); }
inline Floats fma(Floats a, Floats b, Floats c) { return vfmaq_f32(c, a, b); }
inline void store(float* p, Floats v) { vst1q_f32(p, v); }

#else
#define ISA "plain"
constexpr int R = 8, TILE = 4;
constexpr int SIGN = 0;
struct Codes { uint8_t v[4 * R]; };
struct Ints { int32_t v[R]; };
struct Floats { float v[R]; };
template <class T, class F> inline T each(F f) {
  T t;
  for (int i = 0; i < int(sizeof t.v / sizeof *t.v); i++) t.v[i] = f(i);
  return t;
}
inline Codes load(const uint8_t* p) { Codes c; std::memcpy(c.v, p, sizeof c.v); return c; }
inline Codes merge(Codes a, Codes b) { return each<Codes>([&](int i) { return a.v[i] | b.v[i]; }); }
inline Codes flip(Codes v) { return each<Codes>([&](int i) { return v.v[i] ^ 128; }); }
template <int FROM, int PLACE, int WIDTH> inline Codes field(Codes v) {
  return each<Codes>([&](int i) { return (v.v[i] >> FROM & ((1 << WIDTH) - 1)) << PLACE; });
}
inline Codes lookup(const int8_t* table, Codes v) { return each<Codes>([&](int i) { return (uint8_t)table[v.v[i]]; }); }
template <int BITS, int QUADS> inline Ints dot(const Codes* w, const int8_t* a, int start) {
  Ints sum = each<Ints>([&](int) { return start; });
  for (int j = 0; j < QUADS; j++)
    for (int i = 0; i < 4 * R; i++) sum.v[i / 4] += (int8_t)w[j].v[i] * a[4 * j + i % 4];
  return sum;
}
inline Floats zero() { return each<Floats>([](int) { return 0.f; }); }
inline Floats all(float v) { return each<Floats>([&](int) { return v; }); }
inline Floats floats(Ints v) { return each<Floats>([&](int i) { return (float)v.v[i]; }); }
inline Floats halves(const uint16_t* p) { return each<Floats>([&](int i) { return from_half(p[i]); }); }
inline Floats bfloats(const uint16_t* p) { return each<Floats>([&](int i) { return from_bfloat(p[i]); }); }
inline Floats bytes(const int8_t* p) { return each<Floats>([&](int i) { return (float)p[i]; }); }
inline Floats mul(Floats a, Floats b) { return each<Floats>([&](int i) { return a.v[i] * b.v[i]; }); }
inline Floats fma(Floats a, Floats b, Floats c) { return each<Floats>([&](int i) { return std::fma(a.v[i], b.v[i], c.v[i]); }); }
inline void store(float* p, Floats v) { std::memcpy(p, v.v, sizeof v.v); }
#endif

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

// ---- Threads. The caller cuts its work into pieces and takes them one by one; helpers that are awake take some too. Nobody is
// waited for but a helper in the middle of a piece, so a busy machine costs little more than the caller's own time.
// A helper looks for new work for some microseconds (the time between two layers) before it sleeps.

class Pool {
 public:
  void run(int threads, int pieces, void (*work)(void*, int), void* data) {
    if (threads < 2 || pieces < 2 || !owner_.try_lock()) {  // somebody else's job is under way: do without helpers
      for (int piece = 0; piece < pieces; piece++) work(data, piece);
      return;
    }
    try {
      for (; helpers_ < threads - 1; helpers_++) std::thread([this, index = helpers_] { help(index); }).detach();
    } catch (...) {  // the system gives no more threads
    }
    work_ = work, data_ = data, wanted_ = threads - 1, done_ = 0;
    const uint64_t job = (state_.load() >> 40) + 1;
    state_.store(job << 40 | (uint64_t)pieces << 20);  // bits 40..: which job; 20..39: its pieces; 0..19: pieces taken
    if (sleeping_.load() > 0) {
      std::lock_guard<std::mutex> hold(door_);
      bell_.notify_all();
    }
    int mine = 0;
    for (int piece; (piece = take(job)) >= 0; mine++) work(data, piece);
    for (int spins = 0; done_.load(std::memory_order_acquire) < pieces - mine; spins++)
      if (spins < 2000) pause();
      else std::this_thread::yield();  // the helper may be waiting for this very processor
    owner_.unlock();
  }

 private:
  // The next piece of a job, or -1. Only whoever holds a piece may look at the job: until it is done, the job stays.
  int take(uint64_t job) {
    uint64_t now = state_.load();
    while (now >> 40 == job && (now & 0xfffff) < (now >> 20 & 0xfffff))
      if (state_.compare_exchange_weak(now, now + 1)) return (int)(now & 0xfffff);
    return -1;
  }
  void help(int index) {
    uint64_t last = 0;
    for (;;) {
      uint64_t job = state_.load() >> 40;
      for (int spins = 0; job == last && spins < 4000; spins++) pause(), job = state_.load() >> 40;
      if (job == last) {
        std::unique_lock<std::mutex> hold(door_);
        sleeping_++;
        bell_.wait(hold, [&] { return (job = state_.load() >> 40) != last; });
        sleeping_--;
      }
      last = job;
      if (index < wanted_.load())
        for (int piece; (piece = take(job)) >= 0; done_.fetch_add(1, std::memory_order_release)) work_(data_, piece);
    }
  }
  static void pause() {
#if defined(__x86_64__) || defined(_M_X64)
    _mm_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
  }
  std::mutex owner_, door_;
  std::condition_variable bell_;
  std::atomic<uint64_t> state_{0};
  std::atomic<int> sleeping_{0}, done_{0}, wanted_{0};
  void (*work_)(void*, int) = nullptr;
  void* data_ = nullptr;
  int helpers_ = 0;
};

Pool& pool() {
  static std::atomic<Pool*> current{new Pool};  // never freed: helpers may outlive every destructor
#if defined(__unix__) || defined(__APPLE__)
  static std::atomic<int> process{(int)getpid()};
  if (process.exchange((int)getpid()) != (int)getpid()) current = new Pool;  // a forked child has none of the helpers
#endif
  return *current;
}

template <class F> void parallel(int threads, int pieces, F f) {
  pool().run(threads, pieces, [](void* data, int piece) { (*(F*)data)(piece); }, &f);
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

extern "C" {

const char* orrery_isa() { return ISA; }
int orrery_panel() { return R; }

// The exclusive or of an array of 64-bit words (eight at a time): what reading memory costs.
uint64_t orrery_read(const uint64_t* words, int64_t count, int threads) {
  std::atomic<uint64_t> result{0};
  const int64_t each = count / (16 * threads) / 8 * 8 + 8;
  parallel(threads, 16 * threads, [&](int piece) {
    uint64_t mixed[8] = {};
    for (int64_t i = piece * each, end = std::min(count, i + each); i + 8 <= end; i += 8) {
      __builtin_prefetch(words + i + 256);
      for (int k = 0; k < 8; k++) mixed[k] ^= words[i + k];
    }
    for (uint64_t part : mixed) result ^= part;
  });
  return result;
}

// out = x / sqrt(mean x^2 + eps) * (offset + weight), row by row. Squares are summed in 16 lanes, so in one fixed order.
void orrery_rms_norm(
    const float* x, const float* weight, float eps, float offset, int64_t rows, int64_t width, float* out, int threads) {
  const int64_t each = std::max<int64_t>(1, 16384 / width);
  parallel(threads, (int)((rows + each - 1) / each), [&](int piece) {
    for (int64_t r = piece * each; r < std::min(rows, (piece + 1) * each); r++) {
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
    }
  });
}

// Turns the pairs (i, i + half) of every head: x, out (tokens, heads, width); cosine, sine (tokens, half). The rest is copied.
void orrery_rope(
    const float* x, const float* cosine, const float* sine, int64_t tokens, int64_t heads, int64_t width, int64_t half,
    float* out, int threads) {
  const int64_t each = std::max<int64_t>(1, 16384 / (heads * width));
  parallel(threads, (int)((tokens + each - 1) / each), [&](int piece) {
    for (int64_t t = piece * each; t < std::min(tokens, (piece + 1) * each); t++)
      for (int64_t h = 0; h < heads; h++) {
        const float *a = x + (t * heads + h) * width, *b = a + half, *c = cosine + t * half, *s = sine + t * half;
        float *to_a = out + (t * heads + h) * width, *to_b = to_a + half;
        for (int64_t i = 0; i < half; i++) to_a[i] = a[i] * c[i] - b[i] * s[i];
        for (int64_t i = 0; i < half; i++) to_b[i] = b[i] * c[i] + a[i] * s[i];
        std::copy(a + 2 * half, a + width, to_a + 2 * half);
      }
  });
}

// y (rows, w.rows) = x (rows, w.columns) times the matrix, transposed; activations in 1 or 2 terms of 8 bits.
void orrery_multiply(const Matrix* w, const float* x, int64_t rows, int terms, float* y, int threads) {
  with_kind(w->kind, [&](auto kind) { multiply<decltype(kind)>(*w, x, rows, terms, y, threads); });
}

// out (count, w.columns): the rows of the matrix that `ids` names.
void orrery_rows(const Matrix* w, const int64_t* ids, int64_t count, float* out, int threads) {
  with_kind(w->kind, [&](auto kind) {
    parallel(threads, (int)((count + 31) / 32), [&](int piece) {
      for (int64_t i = piece * 32; i < std::min<int64_t>(count, piece * 32 + 32); i++)
        expand<decltype(kind)>(*w, ids[i], out + i * w->columns);
    });
  });
}
}
