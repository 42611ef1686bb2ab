// The caller cuts its work into pieces and takes them one by one; helpers that are awake take some too. Nobody is
// waited for but a helper in the middle of a piece, so a busy machine costs little more than the caller's own time.
// A helper looks for new work for some microseconds (the time between two layers) before it sleeps.

#pragma once

#include "simd.h"

namespace {

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

}  // namespace
