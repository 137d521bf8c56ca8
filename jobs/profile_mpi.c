/* What each rank does in the collectives of fedmpi: calls, bytes and seconds, printed at its end. PMPI wrappers, see
 * docs/clusters.md.
 *
 *   mpicc -shared -fPIC -o profile_mpi.so jobs/profile_mpi.c
 *   LD_PRELOAD=$PWD/profile_mpi.so FEDMPI_FORKSERVER=off fedmpi run quickstart --ranks 3
 */
#include <mpi.h>
#include <stdio.h>

enum { BCAST, GATHERV, REDUCE, TEST, FUNCTIONS };
static const char *const names[FUNCTIONS] = {"MPI_Ibcast", "MPI_Igatherv", "MPI_Ireduce", "MPI_Test"};
static long calls[FUNCTIONS];
static double bytes[FUNCTIONS], seconds[FUNCTIONS];

static double size_of(MPI_Datatype type) {
    int size;
    PMPI_Type_size(type, &size);
    return size;
}

#define COUNTED(function, amount, call)            \
    double start = PMPI_Wtime();                   \
    int code = call;                               \
    seconds[function] += PMPI_Wtime() - start;     \
    bytes[function] += (amount);                   \
    calls[function]++;                             \
    return code

#define WRAPPERS(suffix, count, displacement)                                                                        \
    int MPI_Ibcast##suffix(void *buffer, count n, MPI_Datatype type, int root, MPI_Comm comm, MPI_Request *request) {  \
        COUNTED(BCAST, n * size_of(type), PMPI_Ibcast##suffix(buffer, n, type, root, comm, request));                \
    }                                                                                                                \
    int MPI_Igatherv##suffix(const void *from, count n, MPI_Datatype type, void *to, const count counts[],           \
                             const displacement at[], MPI_Datatype type_to, int root, MPI_Comm comm,                 \
                             MPI_Request *request) {                                                                 \
        COUNTED(GATHERV, n * size_of(type),                                                                          \
                PMPI_Igatherv##suffix(from, n, type, to, counts, at, type_to, root, comm, request));                 \
    }                                                                                                                \
    int MPI_Ireduce##suffix(const void *from, void *to, count n, MPI_Datatype type, MPI_Op op, int root,             \
                            MPI_Comm comm, MPI_Request *request) {                                                   \
        COUNTED(REDUCE, n * size_of(type), PMPI_Ireduce##suffix(from, to, n, type, op, root, comm, request));        \
    }

WRAPPERS(, int, int)
#if MPI_VERSION >= 4
WRAPPERS(_c, MPI_Count, MPI_Aint)
#endif

int MPI_Test(MPI_Request *request, int *flag, MPI_Status *status) {
    COUNTED(TEST, 0.0, PMPI_Test(request, flag, status));
}

int MPI_Finalize(void) {
    int rank;
    PMPI_Comm_rank(MPI_COMM_WORLD, &rank);
    for (int i = 0; i < FUNCTIONS; i++)
        fprintf(stderr, "rank %d: %s: %ld calls, %.0f bytes, %.3f s\n", rank, names[i], calls[i], bytes[i], seconds[i]);
    return PMPI_Finalize();
}
