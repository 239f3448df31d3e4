/* Open-loop load: requests of a Poisson process over keep-alive connections, latency from the scheduled arrival.
 *
 *     poisson HOST PORT RATE SECONDS CONNECTIONS KEY BODIES SEED
 *
 * BODIES holds one JSON body per line. Prints one JSON object: answers, errors, dropped, p50_us, p99_us, p999_us, max_us.
 * A request whose time has come while every connection is busy waits, and its latency with it (no co-ordinated
 * omission).
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

typedef struct { int fd, busy; double due; char buffer[65536]; size_t got; } Connection;

static double now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec + t.tv_nsec * 1e-9; }

static int ascending(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

/* Bytes of a whole answer at the start of the buffer, 0 while it is not complete. */
static size_t whole(Connection *c) {
  c->buffer[c->got] = 0;
  char *end = strstr(c->buffer, "\r\n\r\n");
  if (!end) return 0;
  char *length = strcasestr(c->buffer, "content-length:");
  if (!length || length > end) return 0;
  size_t total = (size_t)(end + 4 - c->buffer) + strtoul(length + 15, NULL, 10);
  return c->got >= total ? total : 0;
}

int main(int argc, char **argv) {
  if (argc != 9) return 2;
  double rate = atof(argv[3]), seconds = atof(argv[4]);
  int connections = atoi(argv[5]), bodies = 0;
  static char *requests[100000];
  FILE *file = fopen(argv[7], "r");
  if (!file) return 2;
  char *line = NULL; size_t room = 0; ssize_t size;
  while ((size = getline(&line, &room, file)) > 1 && bodies < 100000) {
    if (line[size - 1] == '\n') line[--size] = 0;
    if (asprintf(&requests[bodies++], "POST /v1/decisions HTTP/1.1\r\nHost: %s:%s\r\nAuthorization: Bearer %s\r\n"
        "Content-Type: application/json\r\nContent-Length: %zd\r\n\r\n%s", argv[1], argv[2], argv[6], size, line) < 0) return 2;
  }
  prctl(PR_SET_TIMERSLACK, 1UL);  /* nanoseconds: 50 microseconds are usual */
  srand48(atol(argv[8]));
  Connection *all = calloc((size_t)connections, sizeof *all);
  int poll = epoll_create1(0), one = 1;
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(argv[2]))};
  inet_pton(AF_INET, argv[1], &to.sin_addr);
  for (int i = 0; i < connections; i++) {
    all[i].fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(all[i].fd, (struct sockaddr *)&to, sizeof to)) { perror("connect"); return 1; }
    setsockopt(all[i].fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    fcntl(all[i].fd, F_SETFL, O_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &all[i]};
    epoll_ctl(poll, EPOLL_CTL_ADD, all[i].fd, &event);
  }
  size_t most = (size_t)(rate * seconds * 1.5) + 1000, answered = 0, errors = 0, sent = 0;
  double *latency = malloc(most * sizeof *latency), begin = now(), next = begin, last = begin + seconds;
  double *waiting = malloc(most * sizeof *waiting); size_t first = 0, queued = 0;
  int active = 0;
  while (now() < last + 5 && (next < last || active || first < queued)) {
    double moment = now();
    while (next <= moment && next < last && queued < most) { waiting[queued++] = next; next += -log(1 - drand48()) / rate; }
    for (int i = 0; i < connections && first < queued; i++) if (!all[i].busy) {
      char *text = requests[sent++ % (size_t)bodies];
      if (write(all[i].fd, text, strlen(text)) != (ssize_t)strlen(text)) { errors++; continue; }
      all[i].busy = 1; all[i].due = waiting[first++]; active++;
    }
    struct epoll_event events[256];
    double pause = fmin(fmax(next - now(), 0), 0.001);  /* asleep until then: the server may need this core */
    struct timespec wait = {.tv_nsec = (long)(pause * 1e9)};
    int found = epoll_pwait2(poll, events, 256, &wait, NULL);
    for (int i = 0; i < found; i++) {
      Connection *c = events[i].data.ptr;
      ssize_t read_now = read(c->fd, c->buffer + c->got, sizeof c->buffer - 1 - c->got);
      if (read_now <= 0) { if (errno != EAGAIN) { fprintf(stderr, "connection lost\n"); return 1; } continue; }
      c->got += (size_t)read_now;
      if (!whole(c)) continue;
      if (strncmp(c->buffer, "HTTP/1.1 200", 12)) errors++;
      if (answered < most) latency[answered++] = now() - c->due;
      c->got = 0; c->busy = 0; active--;
    }
  }
  qsort(latency, answered, sizeof *latency, ascending);
  #define AT(q) (answered ? latency[(size_t)((double)(answered - 1) * (q))] * 1e6 : 0)
  printf("{\"answers\": %zu, \"errors\": %zu, \"dropped\": %zu, \"p50_us\": %.0f, \"p99_us\": %.0f, \"p999_us\": %.0f, \"max_us\": %.0f}\n",
         answered, errors, queued - answered, AT(0.5), AT(0.99), AT(0.999), AT(1.0));
  return 0;
}
