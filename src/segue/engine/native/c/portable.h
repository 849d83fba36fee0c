/* What each system has in its own way: aligned memory, threads, locks, pauses. */
#ifndef SEGUE_PORTABLE_H
#define SEGUE_PORTABLE_H

#include <stddef.h>

#if defined(_WIN32)
#define WIN32_LEAN_AND_MEAN
#define NOMINMAX
#include <windows.h>
typedef SRWLOCK lock_type;
typedef CONDITION_VARIABLE condition_type;
typedef HANDLE thread_type;
#else
#include <pthread.h>
typedef pthread_mutex_t lock_type;
typedef pthread_cond_t condition_type;
typedef pthread_t thread_type;
#endif

/* Zeros that begin at a multiple of 64 bytes, or NULL. */
void *aligned_zeros(size_t bytes);
void aligned_free(void *);

/* 0, or not started. */
int thread_start(thread_type *, void (*run)(void *), void *argument);
void thread_join(thread_type);

void lock_make(lock_type *);
void lock_drop(lock_type *);
void lock_take(lock_type *);
void lock_release(lock_type *);
void condition_make(condition_type *);
void condition_drop(condition_type *);
void condition_wait(condition_type *, lock_type *);
void condition_wake_all(condition_type *);

/* Tell the processor that this thread spins. */
static inline void pause_a_moment(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

#endif
