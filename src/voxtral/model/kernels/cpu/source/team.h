/* Threads: those of the OpenMP that torch computes with, called through pointers, so that this library needs none of
 * its own and none to be compiled. A second one would have threads of its own, which wait for work beside torch's. */
#ifndef VOXTRAL_TEAM_H
#define VOXTRAL_TEAM_H

#include <stdint.h>

typedef void (*work)(void *data);

typedef struct {
    /* GNU's entry points, or null: GOMP_parallel, GOMP_barrier. LLVM's and Intel's libraries have them on Linux. */
    void (*gnu_parallel)(work, void *, unsigned, unsigned);
    void (*gnu_barrier)(void);
    /* LLVM's entry points, or null: __kmpc_fork_call, __kmpc_global_thread_num, __kmpc_push_num_threads,
     * __kmpc_barrier. */
    void (*llvm_fork)(void *, int32_t, void *, ...);
    int32_t (*llvm_thread)(void *);
    void (*llvm_push)(void *, int32_t, int32_t);
    void (*llvm_barrier)(void *, int32_t);
    int (*thread_number)(void); /* omp_get_thread_num */
    int (*team_size)(void);     /* omp_get_num_threads */
} team;

/* What LLVM's library wants to know of the place in the source. */
typedef struct {
    int32_t reserved, flags, reserved_too, reserved_three;
    const char *place;
} llvm_place;

static llvm_place PLACE = {0, 2, 0, 0, ";voxtral;products;0;0;;"};

static void llvm_work(int32_t *thread, int32_t *bound, work run, void *data) {
    (void)thread;
    (void)bound;
    run(data);
}

/* Runs `run` in so many threads of this thread's team; in this thread alone where there is no team. */
static void run_in_team(const team *t, int threads, work run, void *data) {
    if (threads > 1 && t && t->gnu_parallel) {
        t->gnu_parallel(run, data, (unsigned)threads, 0);
    } else if (threads > 1 && t && t->llvm_fork) {
        t->llvm_push(&PLACE, t->llvm_thread(&PLACE), threads);
        t->llvm_fork(&PLACE, 2, (void *)llvm_work, run, data);
    } else {
        run(data);
    }
}

static void wait_for_team(const team *t) {
    if (t->gnu_barrier)
        t->gnu_barrier();
    else
        t->llvm_barrier(&PLACE, t->llvm_thread(&PLACE));
}

#endif
