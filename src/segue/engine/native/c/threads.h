/* Threads that run one function together, over and over.
 *
 * Who waits spins for some microseconds and then sleeps: within a step others are there at once,
 * between steps the host samples. */
#ifndef SEGUE_THREADS_H
#define SEGUE_THREADS_H

#include <stdatomic.h>

#include "portable.h"

struct team {
    int size; /* with the thread that calls */
    void (*work)(void *, int thread);
    void *argument;
    atomic_int arrived, claimed;
    atomic_uint phase; /* how many barriers have been passed */
    atomic_int sleepers, over;
    lock_type lock;
    condition_type wake;
    thread_type *threads;
};

/* 0, or a thread was not started; then nothing is left behind. */
int team_start(struct team *, int size, void (*work)(void *, int), void *argument);
void team_stop(struct team *);
/* Run `work` on all threads; return when all have done it. */
void team_run(struct team *);
/* Within `work`: wait until all threads have come here. */
void team_meet(struct team *);
/* Within `work`: the next number since the threads met, from 0 on. */
static inline int team_claim(struct team *team) {
    return atomic_fetch_add_explicit(&team->claimed, 1, memory_order_relaxed);
}

#endif
