// Attention over keys and values that lie in pages: softmax(q k^T scale) v for queries of any number of sequences in one call.
//
// Page p holds `block` tokens: keys (pages, block, heads, width), values (pages, block, heads, value width). tables (sequences,
// stride) says which page has tokens i * block .. of a sequence. A query at position p sees keys p - window < j <= p; a query of a
// tree of drafts sees those before the tree, its ancestors and itself (own: where the tree starts, and a bit for each; for a query
// outside of trees the place behind it, and none).
//
// Every query's sums run over its own keys in the order of their positions, and keys it does not see add zeros; so its numbers do not
// depend on what else is in the call, on the size of pages, on how a prompt was cut, or on threads.

#pragma once

#include <array>

#include "dense.h"

namespace {

enum Stored { FLOAT32, BFLOAT16, INT8, FLOAT8 };

struct Pages {  // the same in attention.py
  void *keys, *values;  // values null: the first numbers of the keys
  float *key_scales, *value_scales;  // of INT8 and FLOAT8: (pages, block, heads)
  const int32_t* tables;
  int64_t stride, block, heads, width, value_width, stored;
};

inline int64_t slot(const Pages& s, int64_t owner, int64_t j) {
  if (s.block == 0) return s.tables[owner * s.stride] + j;  // no pages: a sequence's tokens follow each other
  return (int64_t)s.tables[owner * s.stride + j / s.block] * s.block + j % s.block;
}

// Those of tokens j .. j + n - 1, with one division for all.
inline void slots(const Pages& s, int64_t owner, int64_t j, int64_t n, int64_t* at) {
  if (s.block == 0) {
    for (int64_t i = 0; i < n; i++) at[i] = s.tables[owner * s.stride] + j + i;
    return;
  }
  const int32_t* page = s.tables + owner * s.stride + j / s.block;
  for (int64_t i = 0, in = j % s.block; i < n; page++, in = 0)
    for (; in < s.block && i < n; in++, i++) at[i] = (int64_t)*page * s.block + in;
}

inline float from_float8(uint8_t v) {  // 1 sign, 4 exponent (bias 7), 3 mantissa bits; no infinity
  const uint32_t rest = v & 0x7f;
  const float size = rest == 0x7f ? NAN : rest < 8 ? (float)rest * 0x1p-9f : from_bits((rest << 20) + (120u << 23));
  return v & 0x80 ? -size : size;
}
inline uint8_t to_float8(float x) {  // nearest, ties to even; |x| <= 448
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  const uint8_t sign = bits >> 24 & 0x80;
  const float size = std::fabs(x);
  if (!(size <= 464.f)) return sign | 0x7f;
  if (size < 0x1p-6f) return sign | (uint8_t)std::nearbyint(size * 0x1p9f);
  bits &= 0x7fffffff;
  bits += 0x7ffff + (bits >> 20 & 1);
  return sign | (uint8_t)std::min<uint32_t>((bits >> 20) - (120u << 3), 0x7e);
}
inline uint16_t to_bfloat(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  if ((bits & 0x7fffffff) > 0x7f800000) return 0x7fc0;
  return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// Number `at` on of a store, `n` of them, as floats: the store's own where it has floats, else in `room`.
inline const float* numbers(const void* store, int64_t stored, int64_t at, int64_t n, float scale, float* room) {
  switch (stored) {
    case FLOAT32: return (const float*)store + at;
    case BFLOAT16:
      for (int64_t i = 0; i < n; i++) room[i] = from_bfloat(((const uint16_t*)store)[at + i]);
      break;
    case INT8:
      for (int64_t i = 0; i < n; i++) room[i] = scale * (float)((const int8_t*)store)[at + i];
      break;
    default: {
      static const auto table = [] {
        std::array<float, 256> t{};
        for (int i = 0; i < 256; i++) t[i] = from_float8((uint8_t)i);
        return t;
      }();
      for (int64_t i = 0; i < n; i++) room[i] = scale * table[((const uint8_t*)store)[at + i]];
    }
  }
  return room;
}

inline void put(void* store, int64_t stored, int64_t at, const float* x, int64_t n, float* scale) {
  float most = 0;
  if (stored >= INT8) {
    for (int64_t i = 0; i < n; i++) most = std::max(most, std::fabs(x[i]));
    *scale = most / (stored == INT8 ? 127.f : 448.f);
  }
  const float inverse = most > 0 ? (stored == INT8 ? 127.f : 448.f) / most : 0.f;
  for (int64_t i = 0; i < n; i++) switch (stored) {
      case FLOAT32: ((float*)store)[at + i] = x[i]; break;
      case BFLOAT16: ((uint16_t*)store)[at + i] = to_bfloat(x[i]); break;
      case INT8: ((int8_t*)store)[at + i] = (int8_t)std::nearbyint(x[i] * inverse); break;
      default: ((uint8_t*)store)[at + i] = to_float8(x[i] * inverse);
    }
}

// Keys k (tokens, heads, width) and values v of each token to place `at` of its sequence.
inline void write_pages(
    const Pages& s, const float* k, const float* v, const int32_t* owners, const int64_t* at, int64_t tokens, int threads) {
  const int64_t each = std::max<int64_t>(1, 16384 / (s.heads * s.width));
  parallel(threads, (int)((tokens + each - 1) / each), [&](int piece) {
    for (int64_t t = piece * each; t < std::min(tokens, (piece + 1) * each); t++)
      for (int64_t h = 0; h < s.heads; h++) {
        const int64_t to = slot(s, owners[t], at[t]) * s.heads + h, from = t * s.heads + h;
        put(s.keys, s.stored, to * s.width, k + from * s.width, s.width, s.key_scales + to);
        if (s.values) put(s.values, s.stored, to * s.value_width, v + from * s.value_width, s.value_width, s.value_scales + to);
      }
  });
}

struct Queries {  // the same in attention.py
  const float* q;  // (tokens, query heads, width)
  float* out;      // (tokens, query heads, value width)
  const int32_t* owners;
  const int64_t *positions, *own;  // own (tokens, 2) or null
  const float* sinks;              // (query heads) or null
  int64_t tokens, heads, window;   // window 0: none
  float scale, softcap;            // softcap 0: none
};

// Some queries of one sequence that follow each other, with all query heads of one kv head. Their rows of scores stand for keys
// low .. low + span - 1, whole sixteens; keys from .. to - 1 are those that some of the queries see, and no others are read.
struct Tile {
  int64_t first, count, head, from, to, low, span;
};

constexpr int64_t STRIP = 32;  // keys looked at together: they stay in a first-level cache

// What a query sees: keys from .. its own place, and which of the tree.
struct Sight {
  int64_t from, to, tree;
  uint64_t bits;
};
inline Sight sight(const Queries& x, int64_t t) {
  const int64_t p = x.positions[t], from = x.window ? std::max<int64_t>(0, p - x.window + 1) : 0;
  if (!x.own) return {from, p + 1, p + 1, 0};
  const uint64_t bits = (uint64_t)x.own[2 * t + 1];
  int64_t count = 0;
  while (count < 64 && bits >> count) count++;
  return {from, x.own[2 * t] + count, x.own[2 * t], bits};
}

inline void tile_scores(const Pages& s, const Queries& x, const Tile& tile, int64_t from, int64_t to, float* scores) {
  const int64_t group = x.heads / s.heads, rows = tile.count * group;
  thread_local std::vector<float> room;
  if (s.stored != FLOAT32) room.resize(STRIP * s.width);
  std::vector<const float*> a(rows);
  const float* b[STRIP];
  int64_t place[STRIP];
  for (int64_t r = 0; r < rows; r++)
    a[r] = x.q + ((tile.first + r / group) * x.heads + tile.head * group + r % group) * s.width;
  for (int64_t j = from; j < to; j += STRIP) {
    const int64_t n = std::min(STRIP, to - j);
    slots(s, x.owners[tile.first], j, n, place);
    for (int64_t i = 0; i < n; i++) {
      const int64_t at = place[i] * s.heads + tile.head;
      b[i] = numbers(s.keys, s.stored, at * s.width, s.width, s.stored < INT8 ? 1.f : s.key_scales[at], room.data() + i * s.width);
    }
    all_dots(a.data(), rows, b, n, s.width, scores + j - tile.low, tile.span);
  }
}

// Scores to probabilities, row by row; sums in 16 lanes by a key's position.
inline void tile_softmax(const Pages& s, const Queries& x, const Tile& tile, float* scores) {
  const int64_t group = x.heads / s.heads;
  for (int64_t r = 0; r < tile.count * group; r++) {
    float* e = scores + r * tile.span;
    const Sight seen = sight(x, tile.first + r / group);
    const float* sink = x.sinks ? x.sinks + tile.head * group + r % group : nullptr;
    const int64_t from = seen.from - tile.low, to = seen.to - tile.low;
    std::fill(e, e + from, -INFINITY), std::fill(e + to, e + tile.span, -INFINITY);
    for (int64_t i = from; i < to; i++) e[i] *= x.scale;
    if (x.softcap != 0.f)
      for (int64_t i = from; i < to; i++) e[i] = x.softcap * hyperbolic_tangent(e[i] / x.softcap);
    for (int64_t j = seen.tree; j < seen.to; j++)
      if (!(seen.bits >> (j - seen.tree) & 1)) e[j - tile.low] = -INFINITY;
    float lanes[16], most = sink ? *sink : -INFINITY, sum = 0;
    std::fill(lanes, lanes + 16, -INFINITY);
    for (int64_t i = 0; i < tile.span; i += 16)
      for (int k = 0; k < 16; k++) lanes[k] = e[i + k] < lanes[k] ? lanes[k] : e[i + k];
    for (float lane : lanes) most = lane < most ? most : lane;
    std::fill(lanes, lanes + 16, 0.f);
    for (int64_t i = 0; i < tile.span; i += 16)
      for (int k = 0; k < 16; k++) {
        const float value = exponential(e[i + k] - most);
        e[i + k] = e[i + k] == -INFINITY ? 0.f : value;
        lanes[k] += e[i + k];
      }
    for (float lane : lanes) sum += lane;
    if (sink) sum += exponential(*sink - most);
    const float inverse = 1.f / sum;
    for (int64_t i = 0; i < tile.span; i++) e[i] *= inverse;
  }
}

template <int M>
ALWAYS void weigh(const float* const* p, const float* const* v, int64_t n, int64_t at, int64_t width, float* const* out) {
  if (width >= 4 * R) {
    Floats sum[M][4];
    UNROLL for (int i = 0; i < M; i++) UNROLL for (int c = 0; c < 4; c++) sum[i][c] = lanes(out[i] + at + c * R);
    for (int64_t j = 0; j < n; j++) {
      Floats y[4];
      UNROLL for (int c = 0; c < 4; c++) y[c] = lanes(v[j] + at + c * R);
      UNROLL for (int i = 0; i < M; i++) {
        const Floats w = all(p[i][j]);
        UNROLL for (int c = 0; c < 4; c++) sum[i][c] = fma(w, y[c], sum[i][c]);
      }
    }
    UNROLL for (int i = 0; i < M; i++) UNROLL for (int c = 0; c < 4; c++) store(out[i] + at + c * R, sum[i][c]);
    return;
  }
  for (int i = 0; i < M; i++)
    for (int64_t j = 0; j < n; j++)
      for (int64_t k = at; k < at + width; k++) out[i][k] = std::fma(p[i][j], v[j][k], out[i][k]);
}

// out = probabilities times values, for the columns from .. to - 1; keys in order.
inline void tile_values(const Pages& s, const Queries& x, const Tile& tile, int64_t from, int64_t to, const float* scores) {
  const int64_t group = x.heads / s.heads, rows = tile.count * group;
  thread_local std::vector<float> room;
  if (s.stored != FLOAT32) room.resize(STRIP * s.width);
  std::vector<float*> out(rows);
  std::vector<const float*> p(rows);
  const float* v[STRIP];
  int64_t place[STRIP];
  for (int64_t r = 0; r < rows; r++) {
    out[r] = x.out + ((tile.first + r / group) * x.heads + tile.head * group + r % group) * s.value_width;
    std::fill(out[r] + from, out[r] + to, 0.f);
  }
  for (int64_t j = tile.from; j < tile.to; j += STRIP) {
    const int64_t n = std::min(STRIP, tile.to - j);
    slots(s, x.owners[tile.first], j, n, place);
    for (int64_t i = 0; i < n; i++) {
      const int64_t at = place[i] * s.heads + tile.head;
      float* here = room.data() + i * s.width;
      if (s.values) v[i] = numbers(s.values, s.stored, at * s.value_width, s.value_width, s.stored < INT8 ? 1.f : s.value_scales[at], here);
      else v[i] = numbers(s.keys, s.stored, at * s.width, s.value_width, s.stored < INT8 ? 1.f : s.key_scales[at], here);
    }
    for (int64_t r = 0; r < rows; r++) p[r] = scores + r * tile.span + j - tile.low;
    for (int64_t at = from; at < to; at += 4 * R) {
      const int64_t width = std::min<int64_t>(4 * R, to - at);
      int64_t r = 0;
      for (; r + 4 <= rows; r += 4) weigh<4>(p.data() + r, v, n, at, width, out.data() + r);
      for (; r < rows; r++) weigh<1>(p.data() + r, v, n, at, width, out.data() + r);
    }
  }
}

inline void attend(const Pages& s, const Queries& x, int threads) {
  const int64_t group = x.heads / s.heads, most = std::max<int64_t>(1, 16 / group);
  std::vector<Tile> tiles;
  for (int64_t t = 0, n; t < x.tokens; t += n) {
    Sight seen = sight(x, t);
    for (n = 1; n < most && t + n < x.tokens && x.owners[t + n] == x.owners[t]; n++) {
      const Sight next = sight(x, t + n);
      seen.from = std::min(seen.from, next.from), seen.to = std::max(seen.to, next.to);
    }
    const int64_t low = seen.from / 16 * 16;
    for (int64_t h = 0; h < s.heads; h++) tiles.push_back({t, n, h, seen.from, seen.to, low, (seen.to - low + 15) / 16 * 16});
  }
  const int64_t count = (int64_t)tiles.size();
  if (count >= 4 * threads || threads == 1) {
    parallel(threads, (int)count, [&](int piece) {
      thread_local std::vector<float> scores;
      const Tile& tile = tiles[piece];
      scores.resize(tile.count * group * tile.span);
      tile_scores(s, x, tile, tile.from, tile.to, scores.data());
      tile_softmax(s, x, tile, scores.data());
      tile_values(s, x, tile, 0, s.value_width, scores.data());
    });
    return;
  }
  // Few queries: cut each one's keys for the scores, and its columns for the values.
  std::vector<int64_t> offsets(count + 1, 0);
  for (int64_t i = 0; i < count; i++) offsets[i + 1] = offsets[i] + tiles[i].count * group * tiles[i].span;
  thread_local std::vector<float> mine;
  mine.resize(offsets[count]);
  float* scores = mine.data();
  const int64_t cuts = 2 * threads, columns = (s.value_width + 4 * R - 1) / (4 * R);
  parallel(threads, (int)(count * cuts), [&](int piece) {
    const Tile& tile = tiles[piece / cuts];
    const int64_t each = ((tile.to - tile.from + cuts - 1) / cuts + 3) / 4 * 4, at = tile.from + piece % cuts * each;
    if (at < tile.to) tile_scores(s, x, tile, at, std::min(tile.to, at + each), scores + offsets[piece / cuts]);
  });
  parallel(threads, (int)count, [&](int piece) { tile_softmax(s, x, tiles[piece], scores + offsets[piece]); });
  parallel(threads, (int)(count * columns), [&](int piece) {
    const int64_t i = piece / columns, at = piece % columns * 4 * R;
    tile_values(s, x, tiles[i], at, std::min(s.value_width, at + 4 * R), scores + offsets[i]);
  });
}

}  // namespace
