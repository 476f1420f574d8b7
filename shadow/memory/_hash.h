#include <stdint.h>
#include <string.h>

/* A hash of bytes, in whatever runs they come: four chains of folded 64-bit products over blocks of 64 bytes, as in wyhash
 * (github.com/wangyi-fudan/wyhash). A product that comes to nothing would wipe its chain out, so what the chain held is
 * kept beside it. The last block is filled up with zeros, and the length goes in at the end. */
#define BLOCK 64

typedef struct {
    uint64_t chain[4], length;
    size_t n_rest;
    unsigned char rest[BLOCK];
} Hash;

static const uint64_t key = 0x9e3779b97f4a7c15;

static uint64_t
folded(uint64_t a, uint64_t b)
{
    __extension__ unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static uint64_t
chained(uint64_t chain, const unsigned char *bytes)
{
    uint64_t words[2];
    memcpy(words, bytes, sizeof words);
    return folded(words[0] ^ key, words[1] ^ chain) ^ (chain << 29 | chain >> 35);
}

static void
hash_blocks(Hash *hash, const unsigned char *bytes, size_t n)
{
    uint64_t a = hash->chain[0], b = hash->chain[1], c = hash->chain[2], d = hash->chain[3];
    for (; n >= BLOCK; bytes += BLOCK, n -= BLOCK) {
        a = chained(a, bytes);
        b = chained(b, bytes + 16);
        c = chained(c, bytes + 32);
        d = chained(d, bytes + 48);
    }
    hash->chain[0] = a, hash->chain[1] = b, hash->chain[2] = c, hash->chain[3] = d;
}

static void
hash_run(Hash *hash, const char *from, size_t n)
{
    const unsigned char *bytes = (const unsigned char *)from;
    hash->length += n;
    if (hash->n_rest) {
        size_t room = BLOCK - hash->n_rest, some = n < room ? n : room;
        memcpy(hash->rest + hash->n_rest, bytes, some);
        hash->n_rest += some;
        bytes += some;
        n -= some;
        if (hash->n_rest < BLOCK)
            return;
        hash_blocks(hash, hash->rest, BLOCK);
        hash->n_rest = 0;
    }
    hash_blocks(hash, bytes, n);
    hash->n_rest = n % BLOCK;
    memcpy(hash->rest, bytes + (n - n % BLOCK), hash->n_rest);
}

/* Return the hash of everything taken in, 0 for nothing at all. */
static uint64_t
hash_end(Hash *hash)
{
    if (!hash->length)
        return 0;
    if (hash->n_rest) {
        memset(hash->rest + hash->n_rest, 0, BLOCK - hash->n_rest);
        hash_blocks(hash, hash->rest, BLOCK);
    }
    uint64_t *chain = hash->chain;
    uint64_t one = folded(chain[0] ^ key, chain[1] ^ hash->length), other = folded(chain[2] ^ key, chain[3]);
    return folded(one ^ key, other) ^ one ^ (other << 32 | other >> 32);
}

static const Hash nothing = {{0x243f6a8885a308d3, 0x13198a2e03707344, 0xa4093822299f31d0, 0x082efa98ec4e6c89}};
