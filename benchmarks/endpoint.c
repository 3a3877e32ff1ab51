/* A chat completions endpoint on loopback that costs next to nothing: one thread, epoll, Linux.
 *
 *     endpoint LATENCY_MS      prints its port, and serves until its standard input ends
 *
 * POST: answered LATENCY_MS after its last byte has come. Of a JSON schema with an enum, one of the values is the
 * answer, with logprobs where they are asked for; otherwise it is "ANSWER: A" (or B, C, D). Equal bodies get equal
 * answers.
 * GET: {"requests": …, "connections": …, "busiest": …, "seconds": …} since the last GET; `busiest` is the most requests
 * at once, `connections` those that asked for the first time, `seconds` the time from the first request to the last answer.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { EVENTS = 256, MOST_OPTIONS = 64, MOST_ALTERNATIVES = 20, ROOM = 1 << 18 };

struct connection {
    int socket, gone, waiting, counted;
    char *request, *reply;
    size_t got, room, size, sent;
    double due;
    struct connection *next; /* the one whose answer is due after this one's */
};

struct text {
    const char *at;
    int size;
};

static int poll_set, timer, asked, opened, at_once, busiest;
static double latency, first_request, last_answer;
static struct connection *oldest, **newest = &oldest;
static char page[ROOM];
static size_t written;

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

static void say(const char *format, ...) {
    va_list values;
    va_start(values, format);
    written += vsnprintf(page + written, ROOM - written, format, values);
    va_end(values);
    if (written >= ROOM) abort();
}

/* A text inside a JSON string. */
static void say_escaped(struct text value) {
    for (int place = 0; place < value.size; place++)
        say(value.at[place] == '"' || value.at[place] == '\\' ? "\\%c" : "%c", value.at[place]);
}

/* What follows "name": in the body, or NULL. */
static const char *value_of(const char *body, const char *name) {
    char key[64];
    snprintf(key, sizeof key, "\"%s\"", name);
    const char *found = strstr(body, key);
    if (!found) return NULL;
    found += strlen(key);
    return found + strspn(found, " :");
}

/* The string that begins at or after `from`, and the place behind it; escapes are kept as they are. */
static const char *string_at(const char *from, struct text *value) {
    const char *start = strchr(from, '"');
    if (!start) return NULL;
    const char *end = ++start;
    while (*end && *end != '"') end += *end == '\\' && end[1] ? 2 : 1;
    *value = (struct text){start, (int)(end - start)};
    return *end ? end + 1 : NULL;
}

static void say_token(struct text token, double logprob) {
    say("{\"token\":\"");
    say_escaped(token);
    say("\",\"logprob\":%.4f,\"bytes\":[", logprob);
    for (int place = 0; place < token.size; place++) say(place ? ",%d" : "%d", (unsigned char)token.at[place]);
    say("]");
}

/* One token of the answer with its alternatives: the other options where an option was chosen, else mere letters. */
static void say_step(struct text token, const struct text *options, int count, int alternatives) {
    say_token(token, -0.1);
    say(",\"top_logprobs\":[");
    for (int place = 0, other = 0; place < alternatives; place++) {
        char letter = (char)('a' + place);
        struct text alternative = {&letter, 1};
        if (place == 0)
            alternative = token;
        else {
            while (other < count && options[other].at == token.at) other++;
            if (other < count) alternative = options[other++];
        }
        if (place) say(",");
        say_token(alternative, place ? -2.5 - place : -0.1);
        say("}");
    }
    say("]}");
}

static void compose(const char *body) {
    uint64_t hash = 14695981039346656037u; /* FNV-1a */
    for (const char *place = body; *place; place++) hash = (hash ^ (unsigned char)*place) * 1099511628211u;
    struct text options[MOST_OPTIONS], key = {"", 0};
    int count = 0;
    const char *list = value_of(body, "enum"), *properties = value_of(body, "properties");
    if (list && properties) {
        string_at(properties, &key);
        while (count < MOST_OPTIONS && list && list[strspn(list, " ,[")] == '"')
            list = string_at(list, &options[count++]);
    }
    const char *wants = value_of(body, "logprobs"), *number = value_of(body, "top_logprobs");
    int alternatives = number ? atoi(number) : 0;
    if (alternatives > MOST_ALTERNATIVES) alternatives = MOST_ALTERNATIVES;
    struct text chosen = {"ABCD" + (hash >> 32) % 4, 1};
    if (count) chosen = options[(hash >> 32) % count];

    written = 0;
    say("{\"id\":\"chatcmpl-%016lx\",\"object\":\"chat.completion\",\"created\":1700000000,\"model\":\"gpt-4o-2024-08-06\","
        "\"system_fingerprint\":\"fp_benchmark\",\"prompt_filter_results\":[{\"prompt_index\":0,\"content_filter_results\":"
        "{\"hate\":{\"filtered\":false,\"severity\":\"safe\"},\"self_harm\":{\"filtered\":false,\"severity\":\"safe\"},"
        "\"sexual\":{\"filtered\":false,\"severity\":\"safe\"},\"violence\":{\"filtered\":false,\"severity\":\"safe\"}}}],"
        "\"usage\":{\"prompt_tokens\":%zu,\"completion_tokens\":5,\"total_tokens\":%zu},\"choices\":[{\"index\":0,"
        "\"finish_reason\":\"stop\",\"content_filter_results\":{},\"message\":{\"role\":\"assistant\",\"refusal\":null,"
        "\"content\":\"",
        (unsigned long)hash, strlen(body) / 4, strlen(body) / 4 + 5);
    if (count) {
        say("{\\\"%.*s\\\":\\\"", key.size, key.at);
        say_escaped(chosen);
        say("\\\"}\"},\"logprobs\":");
    } else
        say("ANSWER: %c\"},\"logprobs\":", *chosen.at);
    if (count && wants && strncmp(wants, "true", 4) == 0) {
        struct text before[] = {{"{\"", 2}, key, {"\":\"", 3}}, after = {"\"}", 2};
        say("{\"refusal\":null,\"content\":[");
        for (int place = 0; place < 3; place++) {
            say_step(before[place], NULL, 0, alternatives);
            say(",");
        }
        say_step(chosen, options, count, alternatives);
        say(",");
        say_step(after, NULL, 0, alternatives);
        say("]}");
    } else
        say("null");
    say("}]}");
}

/* The page with a head before it, kept until it is sent. */
static void prepare(struct connection *connection) {
    char head[512];
    int size = snprintf(head, sizeof head,
                        "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\nContent-Type: application/json\r\n"
                        "apim-request-id: 00000000-0000-0000-0000-%012d\r\nx-ms-region: Loopback\r\n"
                        "x-ratelimit-limit-requests: 100000\r\nx-ratelimit-remaining-requests: 99999\r\n"
                        "x-ratelimit-limit-tokens: 9000000\r\nx-ratelimit-remaining-tokens: 8999999\r\n\r\n",
                        written, asked);
    connection->size = size + written;
    connection->reply = malloc(connection->size);
    memcpy(connection->reply, head, size);
    memcpy(connection->reply + size, page, written);
}

static void forget(struct connection *connection) {
    if (!connection->gone) {
        close(connection->socket);
        connection->gone = 1;
    }
    if (connection->waiting) return; /* it is freed when its answer is due */
    free(connection->request);
    free(connection->reply);
    free(connection);
}

static void transmit(struct connection *connection) {
    while (connection->sent < connection->size) {
        ssize_t sent = send(connection->socket, connection->reply + connection->sent,
                            connection->size - connection->sent, MSG_NOSIGNAL);
        if (sent < 0) return; /* full: epoll says when there is room; or broken: epoll says that, too */
        connection->sent += sent;
    }
    free(connection->reply);
    connection->reply = NULL;
    connection->size = connection->sent = 0;
}

static void set_timer(void) {
    struct itimerspec when = {0};
    if (oldest) {
        when.it_value.tv_sec = (time_t)oldest->due;
        when.it_value.tv_nsec = (long)((oldest->due - (double)when.it_value.tv_sec) * 1e9) + 1;
    }
    timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL);
}

/* Latency is the same for all, so answers are due in the order in which they were asked for. */
static void answer_due(void) {
    while (oldest && oldest->due <= now()) {
        struct connection *connection = oldest;
        oldest = connection->next;
        if (!oldest) newest = &oldest;
        connection->waiting = 0;
        at_once--;
        last_answer = now();
        if (connection->gone)
            forget(connection);
        else
            transmit(connection);
    }
    set_timer();
}

static void report(struct connection *connection) {
    written = 0;
    say("{\"requests\":%d,\"connections\":%d,\"busiest\":%d,\"seconds\":%.6f}", asked, opened, busiest,
        asked ? last_answer - first_request : 0.0);
    prepare(connection);
    asked = opened = busiest = 0;
    transmit(connection);
}

/* Deal with the request in the buffer, if it is whole. */
static void serve(struct connection *connection) {
    connection->request[connection->got] = 0;
    char *end = strstr(connection->request, "\r\n\r\n");
    if (!end) return;
    char *length = strcasestr(connection->request, "\r\ncontent-length:");
    char *body = end + 4;
    size_t size = length && length < end ? strtoul(length + 17, NULL, 10) : 0;
    if (connection->got < (size_t)(body - connection->request) + size) return;
    connection->got = 0;
    if (connection->request[0] == 'G') {
        report(connection);
        return;
    }
    if (asked++ == 0) first_request = now();
    if (!connection->counted) opened++;
    connection->counted = 1;
    compose(body);
    prepare(connection);
    if (++at_once > busiest) busiest = at_once;
    connection->due = now() + latency;
    connection->waiting = 1;
    connection->next = NULL;
    *newest = connection;
    newest = &connection->next;
    if (latency == 0)
        answer_due();
    else if (oldest == connection)
        set_timer();
}

static void receive(struct connection *connection) {
    for (;;) {
        if (connection->room < connection->got + 8192) {
            connection->room = connection->room * 2 + 16384;
            connection->request = realloc(connection->request, connection->room);
        }
        ssize_t got =
            recv(connection->socket, connection->request + connection->got, connection->room - connection->got - 1, 0);
        if (got == 0) {
            forget(connection);
            return;
        }
        if (got < 0) return;
        connection->got += got;
        serve(connection);
    }
}

static void welcome(int listener) {
    int socket, yes = 1;
    while ((socket = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        struct connection *connection = calloc(1, sizeof *connection);
        connection->socket = socket;
        struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = connection};
        epoll_ctl(poll_set, EPOLL_CTL_ADD, socket, &event);
    }
}

static void watch(int descriptor, void *tag) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = tag};
    epoll_ctl(poll_set, EPOLL_CTL_ADD, descriptor, &event);
}

int main(int count, char **arguments) {
    latency = count > 1 ? atof(arguments[1]) / 1000 : 0;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), yes = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(listener, (struct sockaddr *)&address, size) || listen(listener, 4096)) {
        perror("endpoint");
        return 1;
    }
    getsockname(listener, (struct sockaddr *)&address, &size);
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);

    poll_set = epoll_create1(0);
    timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    watch(listener, &listener);
    watch(timer, &timer);
    watch(STDIN_FILENO, page);
    struct epoll_event events[EVENTS];
    for (;;) {
        int found = epoll_wait(poll_set, events, EVENTS, -1);
        for (int place = 0; place < found; place++) {
            void *tag = events[place].data.ptr;
            if (tag == page) {
                if (read(STDIN_FILENO, page, 1) <= 0) return 0;
            } else if (tag == &listener)
                welcome(listener);
            else if (tag == &timer)
                answer_due();
            else {
                struct connection *connection = tag;
                if (connection->size && !connection->waiting) transmit(connection);
                receive(connection);
            }
        }
    }
}
