// What Python calls (native.py), each an operation of its own; and `orrery_replay`, which runs a list of them that was recorded.

#include "attention.h"
#include "blocks.h"
#include "small.h"

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

// One operation: its number (OPERATIONS of native.py) and its arguments, each in a word of 64 bits. A number with a point is a
// double's bits.
void orrery_run(int64_t operation, const int64_t* a, int threads) {
  const auto in = [&](int i) { return (const float*)a[i]; };
  const auto out = [&](int i) { return (float*)a[i]; };
  const auto real = [&](int i) {
    double v;
    std::memcpy(&v, a + i, 8);
    return (float)v;
  };
  switch (operation) {
    case 0: orrery_multiply((const Matrix*)a[0], in(1), a[2], (int)a[3], out(4), threads); break;
    case 1: orrery_rows((const Matrix*)a[0], (const int64_t*)a[1], a[2], out(3), threads); break;
    case 2: linear(in(0), in(1), in(2), a[3], a[4], a[5], out(6), threads); break;
    case 3: rms_norm(in(0), in(1), real(2), real(3), a[4], a[5], out(6), threads); break;
    case 4: rotary((const int64_t*)a[0], in(1), real(2), a[3], a[4], out(5), out(6), threads); break;
    case 5: rope(in(0), in(1), in(2), a[3], a[4], a[5], a[6], out(7), threads); break;
    case 6: add(in(0), in(1), real(2), a[3], out(4), threads); break;
    case 7: add_bias(in(0), in(1), a[2], a[3], out(4), threads); break;
    case 8: scaled(in(0), real(1), a[2], out(3), threads); break;
    case 9: soft_capped(in(0), real(1), a[2], out(3), threads); break;
    case 10: gated((int)a[0], in(1), in(2), a[3], out(4), threads); break;
    case 11:
      write_pages(*(const Pages*)a[0], in(1), in(2), (const int32_t*)a[3], (const int64_t*)a[4], a[5], threads);
      break;
    case 12: attend(*(const Pages*)a[0], *(const Queries*)a[1], threads); break;
    case 13: layer_norm(in(0), in(1), in(2), real(3), a[4], a[5], out(6), threads); break;
    case 14: gather(in(0), (const int64_t*)a[1], a[2], a[3], out(4), threads); break;
    case 15: likeliest(in(0), a[1], (int64_t*)a[2], threads); break;
    case 16: finite(in(0), a[1], (int64_t*)a[2], threads); break;
  }
}

// `count` operations one after the other: words are, for each, its number, how many arguments, the arguments.
void orrery_replay(const int64_t* words, int64_t count, int threads) {
  for (int64_t i = 0; i < count; i++, words += 2 + words[1]) orrery_run(words[0], words + 2, threads);
}
}
