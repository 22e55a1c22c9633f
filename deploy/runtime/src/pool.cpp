#include "pool.h"

#include <pthread.h>
#include <stdlib.h>

#include "status.h"

// Workers wait for the round number to change, spinning for some microseconds before they sleep: operations follow
// each other at once within a run, and an idle pool must not burn a core.
struct uq_pool {
    pthread_mutex_t mutex;
    pthread_cond_t work;
    pthread_cond_t done;
    uint32_t round;    // changes when there is work
    uint32_t running;  // workers that have not finished the round
    uint32_t threads;  // with the caller's
    uint32_t parts;    // of this round
    uint32_t started;  // workers
    bool stop;
    void (*function)(void*, uint32_t);
    void* context;
    struct Worker {
        uq_pool* pool;
        pthread_t thread;
        uint32_t part;
    } workers[UQ_MAX_THREADS];
};

namespace {

constexpr uint32_t kSpins = 4000;

inline void relax() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#else
    __asm__ volatile("" ::: "memory");
#endif
}

uint32_t read(const uint32_t* value) {
    return __atomic_load_n(value, __ATOMIC_ACQUIRE);
}

void* work(void* argument) {
    auto* self = static_cast<uq_pool::Worker*>(argument);
    uq_pool* pool = self->pool;
    uint32_t seen = 0;
    for (;;) {
        for (uint32_t i = 0; i < kSpins && read(&pool->round) == seen; ++i) relax();
        pthread_mutex_lock(&pool->mutex);
        while (pool->round == seen) pthread_cond_wait(&pool->work, &pool->mutex);
        seen = pool->round;
        const bool stop = pool->stop;
        pthread_mutex_unlock(&pool->mutex);
        if (stop) return nullptr;
        if (self->part < pool->parts) pool->function(pool->context, self->part);
        if (__atomic_sub_fetch(&pool->running, 1, __ATOMIC_ACQ_REL) == 0) {
            pthread_mutex_lock(&pool->mutex);
            pthread_cond_signal(&pool->done);
            pthread_mutex_unlock(&pool->mutex);
        }
    }
}

void start_round(uq_pool* pool) {
    pthread_mutex_lock(&pool->mutex);
    __atomic_store_n(&pool->running, pool->started, __ATOMIC_RELEASE);
    __atomic_store_n(&pool->round, pool->round + 1, __ATOMIC_RELEASE);
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->mutex);
}

}  // namespace

namespace uq {

uint32_t pool_threads(const uq_pool* pool) {
    return pool ? pool->threads : 1;
}

void run_parts(uq_pool* pool, uint32_t threads, void (*function)(void* context, uint32_t part), void* context) {
    if (!pool || threads == 1) {
        for (uint32_t part = 0; part < threads; ++part) function(context, part);
        return;
    }
    pool->function = function;
    pool->context = context;
    pool->parts = threads;
    start_round(pool);
    function(context, 0);
    for (uint32_t i = 0; i < kSpins && read(&pool->running) > 0; ++i) relax();
    if (read(&pool->running) == 0) return;
    pthread_mutex_lock(&pool->mutex);
    while (read(&pool->running) > 0) pthread_cond_wait(&pool->done, &pool->mutex);
    pthread_mutex_unlock(&pool->mutex);
}

}  // namespace uq

extern "C" {

uq_status uq_pool_open(uint32_t threads, uq_pool** pool) {
    if (!pool) return uq::fail(UQ_BAD_ARGUMENT, "uq_pool_open: pool is NULL. Pass where it goes.");
    *pool = nullptr;
    if (threads < 1 || threads > UQ_MAX_THREADS)
        return uq::fail(UQ_BAD_ARGUMENT, "%u threads: a pool has 1 to %d. Ask for as many.", threads, UQ_MAX_THREADS);
    auto* fresh = static_cast<uq_pool*>(calloc(1, sizeof(uq_pool)));
    if (!fresh) return uq::fail(UQ_NO_MEMORY, "no memory for a pool. Free some first.");
    pthread_mutex_init(&fresh->mutex, nullptr);
    pthread_cond_init(&fresh->work, nullptr);
    pthread_cond_init(&fresh->done, nullptr);
    fresh->threads = threads;
    for (uint32_t i = 1; i < threads; ++i) {
        uq_pool::Worker& worker = fresh->workers[i];
        worker.pool = fresh;
        worker.part = i;
        if (pthread_create(&worker.thread, nullptr, work, &worker) != 0) {
            uq_pool_close(fresh);
            return uq::fail(UQ_NO_MEMORY, "thread %u of %u could not be started. Ask for fewer.", i + 1, threads);
        }
        ++fresh->started;
    }
    *pool = fresh;
    return UQ_OK;
}

void uq_pool_close(uq_pool* pool) {
    if (!pool) return;
    pthread_mutex_lock(&pool->mutex);
    pool->stop = true;
    pthread_mutex_unlock(&pool->mutex);
    start_round(pool);
    for (uint32_t i = 1; i <= pool->started; ++i) pthread_join(pool->workers[i].thread, nullptr);
    pthread_cond_destroy(&pool->done);
    pthread_cond_destroy(&pool->work);
    pthread_mutex_destroy(&pool->mutex);
    free(pool);
}

}  // extern "C"
