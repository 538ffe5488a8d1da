/* A gate without a network, in C99. SHA-256 and ECDSA over P-256 are needed and come from mbedTLS (2.28 or 3); the rest is here.
 *
 *   cc -O2 -o offline_gate offline_gate.c -lmbedcrypto
 *   offline_gate KEYS.json NOW_MS FILE... < CODES
 *
 * Prints for each file whether it was taken, then for each code a line: state, fresh or stale, masked name, masked number.
 * Files are asked where they lie: a device maps its flash in the place of `read_file`, and needs no other memory. Only green, red and
 * yellow are colours, and nothing but green opens. Print the age of the list beside every colour. */

#include <ctype.h>
#include <mbedtls/ecdsa.h>
#include <mbedtls/md.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KEYS_MAX = 64, HEAD = 64, SIGNATURE = 64, CODE_CHARS = 154, CODE_BYTES = 96 };
enum state { GREEN, RED, YELLOW, VOID, NOT_COVERED, EXPIRED, TOO_OLD, CLOCK, INVALID };
static const char *const WORDS[] = {"green", "red", "yellow", "void", "not_covered", "code_expired", "too_old", "clock", "code_invalid"};
static const uint32_t COLUMN_BITS_MAX = 1u << 26;
static const int64_t CLOCK_LEEWAY = 5 * 60000LL, STALE_AFTER = 30 * 60000LL, TOO_OLD_AFTER = 12 * 3600000LL;
static const int64_t CODE_EPOCH = 1577836800000LL;

struct keys {
    uint32_t issuer;
    int count;
    uint8_t id[KEYS_MAX], point[KEYS_MAX][65]; /* 4, x, y */
};

struct ribbon { size_t at; uint32_t span, seed, columns; };

struct file {
    const uint8_t *bytes; /* NULL: none is held */
    size_t end;           /* where the signature begins */
    uint64_t number, as_of, until;
    uint32_t own[5];
    uint8_t planes;
    struct ribbon first, second, which; /* of a base */
};

struct code {
    uint64_t list_id;
    int64_t issued_at, expires_at;
    char name[5 + 64 + 1], number[19];
};

struct gate { struct keys keys; struct file base, changes; };

static uint32_t be32(const uint8_t *p) { return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3]; }
static uint64_t be64(const uint8_t *p) { return (uint64_t)be32(p) << 32 | be32(p + 4); }

/* ---- signatures */

static int verifies(const struct keys *keys, int id, const uint8_t *message, size_t length, const uint8_t *signature) {
    const uint8_t *point = NULL;
    uint8_t hash[32];
    for (int nth = 0; nth < keys->count; nth++)
        if (keys->id[nth] == id) point = keys->point[nth];
    if (!point || mbedtls_md(mbedtls_md_info_from_type(MBEDTLS_MD_SHA256), message, length, hash)) return 0;
    mbedtls_ecp_group group;
    mbedtls_ecp_point public;
    mbedtls_mpi r, s;
    mbedtls_ecp_group_init(&group);
    mbedtls_ecp_point_init(&public);
    mbedtls_mpi_init(&r);
    mbedtls_mpi_init(&s);
    int wrong = mbedtls_ecp_group_load(&group, MBEDTLS_ECP_DP_SECP256R1)
        || mbedtls_ecp_point_read_binary(&group, &public, point, 65) || mbedtls_ecp_check_pubkey(&group, &public)
        || mbedtls_mpi_read_binary(&r, signature, 32) || mbedtls_mpi_read_binary(&s, signature + 32, 32)
        || mbedtls_ecdsa_verify(&group, hash, sizeof hash, &public, &r, &s);
    mbedtls_mpi_free(&s);
    mbedtls_mpi_free(&r);
    mbedtls_ecp_point_free(&public);
    mbedtls_ecp_group_free(&group);
    return !wrong;
}

/* ---- ribbons */

static uint32_t fmix(uint32_t x) {
    x ^= x >> 16; x *= 0x85ebca6bu;
    x ^= x >> 13; x *= 0xc2b2ae35u;
    return x ^ x >> 16;
}

static uint32_t word(uint64_t id, uint32_t seed, uint32_t nth) {
    return fmix(fmix((uint32_t)(id >> 32) ^ (seed + nth * 0x9e3779b9u)) ^ (uint32_t)id);
}

static size_t column_bytes(uint32_t span) { return span ? ((size_t)span + 128 + 7) / 8 : 0; }

/* A bit for each column, the first lowest. */
static uint32_t ribbon_bits(const uint8_t *file, const struct ribbon *ribbon, uint64_t id) {
    uint32_t start = (uint32_t)((uint64_t)word(id, ribbon->seed, 4) * ribbon->span >> 32), said = 0, row[4];
    size_t length = column_bytes(ribbon->span), first = start / 8;
    for (uint32_t nth = 0; nth < 4; nth++) row[nth] = word(id, ribbon->seed, nth);
    row[0] |= 1;
    for (uint32_t column = 0; column < ribbon->columns; column++) {
        const uint8_t *bytes = file + ribbon->at + column * length;
        uint8_t parity = 0;
        for (size_t nth = 0; nth < 16; nth++) {
            unsigned here = first + nth < length ? bytes[first + nth] : 0;
            unsigned next = first + nth + 1 < length ? bytes[first + nth + 1] : 0;
            parity ^= (uint8_t)((here | next << 8) >> start % 8) & (uint8_t)(row[nth / 4] >> nth % 4 * 8);
        }
        parity ^= parity >> 4; parity ^= parity >> 2; parity ^= parity >> 1;
        said |= (uint32_t)(parity & 1) << column;
    }
    return said;
}

/* ---- files */

static int read_head(const struct keys *keys, int kind, const uint8_t *bytes, size_t length, struct file *file) {
    if (length < HEAD + SIGNATURE || memcmp(bytes, "LML1", 4) || bytes[4] != kind || bytes[5] != 1 || bytes[7] > 2) return 0;
    if (be32(bytes + 8) != keys->issuer || be32(bytes + 12)) return 0;
    *file = (struct file){.bytes = bytes, .end = length - SIGNATURE, .planes = bytes[7],
        .number = be64(bytes + 16), .as_of = be64(bytes + 24), .until = be64(bytes + 32)};
    for (int nth = 0; nth < 5; nth++) file->own[nth] = be32(bytes + 44 + 4 * nth);
    return verifies(keys, bytes[6], bytes, file->end, bytes + file->end);
}

static int read_base(const struct keys *keys, const uint8_t *bytes, size_t length, struct file *file) {
    if (!read_head(keys, 1, bytes, length, file)) return 0;
    uint32_t listed = file->own[0], m1 = file->own[1], k = file->own[2], m2 = file->own[3], seed2 = file->own[4];
    if (m1 > COLUMN_BITS_MAX || m2 > COLUMN_BITS_MAX || k > 32) return 0;
    file->first = (struct ribbon){HEAD, m1, 1, m1 ? k : 0};
    file->second = (struct ribbon){HEAD + file->first.columns * column_bytes(m1), m2, seed2, 1};
    size_t end = file->second.at + column_bytes(m2);
    if (file->planes) {
        if (end + 8 > file->end) return 0;
        file->which = (struct ribbon){end + 8, be32(bytes + end), be32(bytes + end + 4), file->planes};
        if (!file->which.span || file->which.span > COLUMN_BITS_MAX) return 0;
        end += 8 + file->planes * column_bytes(file->which.span);
    }
    return (listed == 0) == (m2 == 0) && end == file->end;
}

static int read_changes(const struct keys *keys, const uint8_t *bytes, size_t length, struct file *file) {
    if (!read_head(keys, 2, bytes, length, file) || file->planes || file->own[4]) return 0;
    uint64_t all = 0;
    for (int nth = 0; nth < 4; nth++) all += file->own[nth];
    if (HEAD + 8 * all != file->end) return 0;
    const uint8_t *at = bytes + HEAD;
    for (int state = 0; state < 4; state++)
        for (uint32_t nth = 0; nth < file->own[state]; nth++, at += 8)
            if (nth && be64(at - 8) >= be64(at)) return 0;
    return 1;
}

static uint64_t as_of(const struct gate *gate) { return gate->changes.bytes ? gate->changes.as_of : gate->base.as_of; }

/* What is held never gets older, and a bad file replaces nothing. Bytes that were taken must stay where they are. */
static const char *take(struct gate *gate, const uint8_t *bytes, size_t length) {
    struct file file;
    if (length > 4 && bytes[4] == 2) {
        if (!read_changes(&gate->keys, bytes, length, &file)) return "bad";
        /* Changes of another base say nothing of this one. */
        if (!gate->base.bytes || file.number != gate->base.number || file.as_of < as_of(gate)) return "older";
        gate->changes = file;
        return "taken";
    }
    if (!read_base(&gate->keys, bytes, length, &file)) return "bad";
    if (gate->base.bytes) {
        if (file.number < gate->base.number || file.as_of < gate->base.as_of) return "older";
        if (file.number == gate->base.number) return "taken";
        if (file.as_of < as_of(gate)) return "older";
    }
    gate->base = file;
    gate->changes = (struct file){0};
    return "taken";
}

static enum state based(const struct file *base, uint64_t id) {
    if (!base->second.span || ribbon_bits(base->bytes, &base->first, id) || ribbon_bits(base->bytes, &base->second, id) != 1) return GREEN;
    uint32_t value = base->planes ? ribbon_bits(base->bytes, &base->which, id) : 0;
    return value == 0 ? RED : value == 1 && base->planes == 2 ? YELLOW : VOID;
}

/* The state by the changes; 0 where they do not hold the id. */
static int changed(const struct file *changes, uint64_t id, enum state *state) {
    static const enum state SAFE_FIRST[] = {VOID, RED, YELLOW, GREEN};
    if (!changes->bytes) return 0;
    for (int nth = 0; nth < 4; nth++) {
        const uint8_t *from = changes->bytes + HEAD;
        for (int before = 0; before < (int)SAFE_FIRST[nth]; before++) from += 8 * (size_t)changes->own[before];
        size_t least = 0, most = changes->own[SAFE_FIRST[nth]];
        while (least < most) {
            size_t middle = least + (most - least) / 2;
            uint64_t here = be64(from + 8 * middle);
            if (here == id) { *state = SAFE_FIRST[nth]; return 1; }
            if (here < id) least = middle + 1; else most = middle;
        }
    }
    return 0;
}

/* ---- codes */

static int decode(const char *text, uint8_t *out) {
    uint32_t bits = 0, count = 0, at = 0;
    for (int nth = 0; nth < CODE_CHARS; nth++) {
        int c = toupper((unsigned char)text[nth]);
        int value = c >= 'A' && c <= 'Z' ? c - 'A' : c >= '2' && c <= '7' ? c - '2' + 26 : -1;
        if (value < 0) return 0;
        bits = (bits << 5 | (uint32_t)value) & 0xfff;
        count += 5;
        if (count >= 8) { count -= 8; out[at++] = (uint8_t)(bits >> count); }
    }
    /* Each code has one spelling: what is left over must be zero. */
    return at == CODE_BYTES && !(bits & ((1u << count) - 1));
}

static int read_code(const struct keys *keys, const char *text, struct code *code) {
    static const int LENGTHS[] = {18, 9, 9, 12};
    uint8_t bytes[CODE_BYTES], message[17 + 32];
    if (strlen(text) != CODE_CHARS || !decode(text, bytes)) return 0;
    unsigned check = bytes[14] << 8 | bytes[15], hours = bytes[20] << 8 | bytes[21], kind = bytes[22] & 3, assurance = bytes[22] >> 2 & 3;
    if (bytes[0] != 0x19 || check >= 1 << 14 || hours < 1 || hours > 8784 || bytes[22] >> 4 || assurance > 2) return 0;
    if ((be32(bytes + 1) & 0xffffff) != keys->issuer) return 0;
    memcpy(message, "liangma offline 1", 17);
    memcpy(message + 17, bytes, 32);
    if (!verifies(keys, bytes[1], message, sizeof message, bytes + 32)) return 0;
    code->list_id = be64(bytes + 5);
    code->issued_at = CODE_EPOCH + 1000 * (int64_t)be32(bytes + 16);
    code->expires_at = code->issued_at + 3600000 * (int64_t)hours;
    size_t stars = bytes[31] > 64 ? 64 : bytes[31], first = strnlen((char *)bytes + 27, 4);
    memcpy(code->name, bytes + 27, first);
    memset(code->name + first, '*', stars);
    code->name[first + stars] = 0;
    memset(code->number, '*', sizeof code->number);
    memcpy(code->number, bytes + 23, 2);
    memcpy(code->number + LENGTHS[kind] - 2, bytes + 25, 2);
    code->number[LENGTHS[kind]] = 0;
    return 1;
}

/* `now` is the gate's clock, in milliseconds since 1970. */
static enum state judge(const struct gate *gate, const char *text, int64_t now, struct code *code, int *stale) {
    enum state state;
    *stale = 0;
    if (!read_code(&gate->keys, text, code)) return INVALID;
    if (!gate->base.bytes) return TOO_OLD;
    int64_t from = (int64_t)as_of(gate), age = now > from ? now - from : 0;
    if (now + CLOCK_LEEWAY < from) return CLOCK;
    if (now >= code->expires_at || now + CLOCK_LEEWAY < code->issued_at) return EXPIRED;
    if (age > TOO_OLD_AFTER || now > (int64_t)(gate->changes.bytes ? gate->changes.until : gate->base.until)) return TOO_OLD;
    if (code->issued_at > from) return NOT_COVERED;
    if (!changed(&gate->changes, code->list_id, &state)) state = based(&gate->base, code->list_id);
    *stale = age > STALE_AFTER;
    return state;
}

/* ---- keys, and the rest of a program */

static int base64url(const char *text, uint8_t *out, size_t room) {
    static const char ALPHABET[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    uint32_t bits = 0, count = 0;
    size_t at = 0;
    for (; *text && *text != '"'; text++) {
        const char *value = strchr(ALPHABET, *text);
        if (!value) return 0;
        bits = bits << 6 | (uint32_t)(value - ALPHABET);
        count += 6;
        if (count >= 8) {
            count -= 8;
            if (at == room) return 0;
            out[at++] = (uint8_t)(bits >> count);
        }
    }
    return at == room;
}

/* The value of a string between two places of a flat JSON; NULL where it has none. */
static const char *string(const char *from, const char *end, const char *name) {
    char key[16];
    snprintf(key, sizeof key, "\"%s\":\"", name);
    const char *at = strstr(from, key);
    return at && at < end ? at + strlen(key) : NULL;
}

/* A JWKS as GET /v1/keys answers it; a device with a JSON library uses that. */
static int read_keys(const char *json, struct keys *keys) {
    const char *end = json + strlen(json), *issuer = string(json, end, "issuer");
    memset(keys, 0, sizeof *keys);
    if (!issuer) return 0;
    keys->issuer = (uint32_t)strtoul(issuer, NULL, 10);
    for (const char *at = strchr(json, '['); at && (at = strchr(at, '{')) != NULL && keys->count < KEYS_MAX; at++) {
        const char *close = strchr(at, '}');
        if (!close) break;
        const char *curve = string(at, close, "crv"), *id = string(at, close, "kid"), *x = string(at, close, "x"), *y = string(at, close, "y");
        uint8_t *point = keys->point[keys->count];
        point[0] = 4;
        if (curve && id && x && y && !strncmp(curve, "P-256\"", 6) && base64url(x, point + 1, 32) && base64url(y, point + 33, 32))
            keys->id[keys->count++] = (uint8_t)atoi(id);
    }
    return 1;
}

static uint8_t *read_file(const char *name, size_t *length) {
    FILE *file = fopen(name, "rb");
    uint8_t *bytes = NULL;
    *length = 0;
    if (file && !fseek(file, 0, SEEK_END) && (bytes = calloc(1, (size_t)ftell(file) + 1)) != NULL) {
        *length = (size_t)ftell(file);
        rewind(file);
        if (fread(bytes, 1, *length, file) != *length) *length = 0;
    }
    if (file) fclose(file);
    return bytes;
}

int main(int argc, char **argv) {
    static struct gate gate;
    char line[512];
    size_t length;
    char *keys = argc > 2 ? (char *)read_file(argv[1], &length) : NULL;
    if (!keys || !read_keys(keys, &gate.keys)) return 2;
    for (int nth = 3; nth < argc; nth++) {
        uint8_t *bytes = read_file(argv[nth], &length);
        puts(bytes ? take(&gate, bytes, length) : "bad");
    }
    while (fgets(line, sizeof line, stdin)) {
        struct code code;
        int stale;
        line[strcspn(line, "\r\n")] = 0;
        enum state state = judge(&gate, line, strtoll(argv[2], NULL, 10), &code, &stale);
        printf("%s %s", WORDS[state], stale ? "stale" : "fresh");
        if (state != INVALID) printf(" %s %s", code.name, code.number);
        puts("");
    }
    return 0;
}
