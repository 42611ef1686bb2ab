// Vectors of R lanes and the dozen small functions that every kernel here is written over, for AVX-512 VNNI, AVX2 (with and without
// VNNI), NEON and plain C++. No multiply-add is fused but where the source says `fma`, so all of them round alike.

#pragma once

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
inline Floats lanes(const float* p) { return _mm512_loadu_ps(p); }
inline float total(Floats v) { return _mm512_reduce_add_ps(v); }

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
inline Floats lanes(const float* p) { return _mm256_loadu_ps(p); }
inline float total(Floats v) {
  __m128 half = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  half = _mm_add_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
}

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
inline Floats lanes(const float* p) { return vld1q_f32(p); }
inline float total(Floats v) { return vaddvq_f32(v); }

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
inline Floats lanes(const float* p) { return each<Floats>([&](int i) { return p[i]; }); }
inline float total(Floats v) {
  float sum = 0;
  for (float x : v.v) sum += x;
  return sum;
}
#endif

}  // namespace
