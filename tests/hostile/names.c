/* Names and roads of one process. What a name leads to is in a file, a line a name: "name address address ...", where
 * each lookup gives the next address. What leads to this host, to its link or to a metadata service ends at one port of
 * this host, all else beyond loopback at another. Preloaded into the real operator, which so needs no switch for it. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

static int lookups[256];

static int address_of(const char *name, char *address, size_t size) {
  FILE *file = fopen(getenv("NAMES_FILE"), "r");
  char line[1024];
  int found = 0;
  for (int at = 0; file && !found && at < 256 && fgets(line, sizeof line, file); at++) {
    char *words[32], *rest = NULL;
    int count = 0;
    for (char *word = strtok_r(line, " \n", &rest); word && count < 32; word = strtok_r(NULL, " \n", &rest)) words[count++] = word;
    if (count < 2 || strcmp(words[0], name)) continue;
    snprintf(address, size, "%s", words[1 + lookups[at]++ % (count - 1)]);
    found = 1;
  }
  if (file) fclose(file);
  return found;
}

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
  int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **) = dlsym(RTLD_NEXT, "getaddrinfo");
  char address[64];
  if (name && address_of(name, address, sizeof address)) name = address;
  return real(name, service, hints, found);
}

/* 0: loopback, left alone. 1: what may never be called. 2: the rest of the world. */
static int road(const struct sockaddr *to) {
  unsigned char v4[4];
  if (to->sa_family == AF_INET) {
    memcpy(v4, &((const struct sockaddr_in *)to)->sin_addr, 4);
  } else {
    const unsigned char *v6 = ((const struct sockaddr_in6 *)to)->sin6_addr.s6_addr;
    static const unsigned char loopback[16] = {[15] = 1}, mapped[12] = {[10] = 0xff, [11] = 0xff};
    if (!memcmp(v6, loopback, 16)) return 0;
    if (memcmp(v6, mapped, 12)) return v6[0] == 0xfd || v6[0] == 0xfe || v6[0] == 0xff || v6[0] == 0 ? 1 : 2;
    memcpy(v4, v6 + 12, 4);
  }
  if (v4[0] == 127) return 0;
  if (v4[0] == 0 || v4[0] >= 224 || (v4[0] == 169 && v4[1] == 254)) return 1;
  return v4[0] == 100 && v4[1] == 100 && v4[2] == 100 && v4[3] == 200 ? 1 : 2;
}

int connect(int socket, const struct sockaddr *to, socklen_t length) {
  int (*real)(int, const struct sockaddr *, socklen_t) = dlsym(RTLD_NEXT, "connect");
  int where = to->sa_family == AF_INET || to->sa_family == AF_INET6 ? road(to) : 0;
  if (!where) return real(socket, to, length);
  unsigned short port = htons((unsigned short)atoi(getenv(where == 1 ? "INSIDE_PORT" : "OUTSIDE_PORT")));
  if (to->sa_family == AF_INET) {
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = port, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    return real(socket, (struct sockaddr *)&here, sizeof here);
  }
  struct sockaddr_in6 here = {.sin6_family = AF_INET6, .sin6_port = port, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
  return real(socket, (struct sockaddr *)&here, sizeof here);
}
