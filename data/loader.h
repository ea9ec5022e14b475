/* The loader: turns a position in the sample stream into a filled micro-batch, ahead of the step that wants it.
 *
 *     vg_loader *loader;
 *     VG_TRY(vg_loader_open(&spec, buffers, n_buffers, &loader));   worker threads start
 *     for (;;) {
 *         vg_loader_want(loader, first_position);                   queue micro-batches in the order they will be used
 *         VG_TRY(vg_loader_take(loader, &batch));                   waits only when the workers are behind
 *         ... use batch ...
 *         vg_loader_give_back(loader, batch);
 *     }
 *     vg_loader_close(loader);
 *
 * A *sample* is one image with up to P phrases of it: an image's phrases of the split, in an order keyed by (seed,
 * epoch, image), are cut into runs of P, so an epoch holds every phrase exactly once. N samples make an epoch; position
 * p is sample permutation(p / N, p % N), or that of one of several sets which a stage mixes (data/sampler.h). A *slot*
 * is one phrase; a micro-batch has m images and m * P slots, slot i * P + j belonging to image i, so the slots of one
 * image lie together. Nothing here knows ranks or models. */
#ifndef VG_DATA_LOADER_H
#define VG_DATA_LOADER_H

#include "data/augment.h"
#include "data/feature_store.h"
#include "data/shard.h"
#include "data/tokenizer.h"
#include "kernels/base/base.h"

typedef struct vg_loader vg_loader;

enum { VG_LOADER_QUEUE = 1024, VG_LOADER_PHRASES = 64, VG_LOADER_SETS = 16, VG_LOADER_SIDES = 8 };

/* What a micro-batch looks like; every field but the side is fixed for the loader's life. */
typedef struct vg_batch_shape {
    int images;           /* m */
    int phrases;          /* P, phrase slots per image, at most VG_LOADER_PHRASES */
    int side;             /* S, pixels: images are stretched to S x S; a stage may have batches with less */
    int text_tokens;      /* Lt, token slots per phrase, a multiple of 8 */
    int max_targets;      /* T, box slots per phrase */
    int64_t image_floats; /* F, of an image's stored features, which take the place of its pixels; 0: pixels */
} vg_batch_shape;

/* One micro-batch. The buffers are the caller's (pinned or not), allocated once by vg_batch_init or by hand. */
typedef struct vg_batch {
    uint8_t *pixels;       /* [m,S,S,3]  RGB; an empty image is all 0. None where features take their place */
    float *image_features; /* [m,F]      an empty image is all 0 */
    int64_t *images;       /* [m]        index of the image in the split, -1 for an empty one */
    int32_t *replaced;     /* [m]        1 where the position's own sample cannot be decoded */
    int32_t *token_ids;    /* [m*P,Lt]   padded with the tokenizer's pad id; an empty slot is <s> </s> pad.. */
    int32_t *token_counts; /* [m*P]      real tokens, at least 2 */
    int32_t *image_index;  /* [m*P]      i of slot i*P+j */
    float *targets;        /* [m*P,T,4]  cx, cy, w, h in 0..1 of the network input; unused rows 0 */
    int32_t *n_targets;    /* [m*P]      0..T */
    int32_t *filled;       /* [m*P]      1, or 0 for an empty slot: outside every count, weight 0 */
    uint32_t *keys;        /* [m*P,4]    random-number key of the slot: {0, phrase j, position low, position high} */
    int32_t *swapped;      /* [m*P]      1 where left and right are exchanged in the phrase, for a mirrored picture */
    int64_t *sentences;    /* [m*P]      index of the sentence in the split's table (vg_split), -1 for an empty slot */
    int64_t first_position;
    vg_batch_shape shape;
    vg_arena memory; /* holds the buffers when vg_batch_init made them */
} vg_batch;

/* Allocates the buffers of a batch in one arena. Errors: VG_E_NOMEM. */
vg_status vg_batch_init(vg_batch *batch, const vg_batch_shape *shape);
void vg_batch_release(vg_batch *batch);

/* What is done to samples from a position of the stream on, until the next stage begins. */
typedef struct vg_loader_stage {
    int64_t first_position;
    vg_augment augment;
    int views; /* fixed ones of each image, of (seed, image, number) and drawn for all its phrases in the split; a
                  sample has that of its epoch. 0: one of (seed, position) for the phrases of the sample */
    int weights[VG_LOADER_SETS]; /* of the sets it draws from (vg_sampler_mix); all 0: the whole split as one */
    int sides[VG_LOADER_SIDES];  /* of pictures, one for each step_images positions; at most the loader's S */
    int n_sides;                 /* 0: S alone */
    int64_t step_images;         /* whose batches have one side together; read where there are several */
} vg_loader_stage;

/* A run of the split's images, in samples of which some stages draw. */
typedef struct vg_loader_set {
    int64_t first_image, n_images;
    const char *name; /* for people */
} vg_loader_set;

/* How a split is read. `split`, `tokenizer`, `stages` and `sets` are kept until vg_loader_close. */
typedef struct vg_loader_spec {
    const vg_split *split;
    const vg_tokenizer *tokenizer;
    vg_batch_shape shape;
    uint64_t seed;
    bool shuffle;     /* false: sentences in table order (evaluation), and positions past the end are empty slots */
    bool blind;       /* every phrase becomes <s> </s>: a control that shows what the text is worth */
    double reduced;   /* JPEGs are stretched as planes (vg_decoded_stretch), decoded at 1/2, 1/4 or 1/8 of their size
                         where that leaves so many times S pixels; 0: neither */
    bool images_only; /* a sample is an image, or a view of one where its stage has fixed ones; its slots stay empty,
                         and an epoch has every image once, with its views one after the other */
    const vg_feature_store *features; /* a row per image of the split, or per view, where shape.image_floats asks for
                                         them; kept until vg_loader_close. An image without a row counts as one that
                                         cannot be decoded */
    const vg_loader_stage *stages;    /* by position; none: pictures as they are */
    int n_stages;
    const vg_loader_set *sets; /* that stages give weights to */
    int n_sets;
    int n_workers;       /* threads; 0 reads in the caller's thread */
    bool pin;            /* each thread stays on one of the processors that the caller's may use, the first on.. */
    int first_processor; /* ..this one, counted among those, and the others on those after it */
    size_t cache_bytes;  /* images stretched as they are, to the full side, kept in memory, first come; same bits */
} vg_loader_spec;

/* How an image becomes pixels, in words: other words, other pixels. */
#define VG_LOADER_PICTURE "stretched, bicubic with antialiasing (2)"

/* Samples in an epoch for a split read with P phrases per sample. Local. */
int64_t vg_loader_epoch_size(const vg_split *split, int phrases);

/* Starts the workers over n caller-owned batches (at least 2; kept until vg_loader_close). Local. */
vg_status vg_loader_open(const vg_loader_spec *spec, vg_batch *batches, int n_batches, vg_loader **out);
void vg_loader_close(vg_loader *loader);

/* Queues the micro-batch whose first image is stream position `first_position` (image i is position first_position +
 * i). Never blocks; at most VG_LOADER_QUEUE, or as many as there are batches, may be queued. Local. Errors: VG_E_BUG
 * when the queue is full. */
vg_status vg_loader_want(vg_loader *loader, int64_t first_position);

/* The oldest wanted micro-batch, filled; valid until given back. A sample that cannot be decoded is logged
 * once by id, marked in `replaced` wherever it comes up, and replaced by that of the next position in the stream (up to
 * 16 on, all as its own stage takes them) when shuffled, else its slots are empty; how many are too many is the
 * caller's to say. A JPEG that lacks its end is no such sample. Boxes without an area are left out; of more than T the
 * first T are taken, with one warning. Local. Errors: VG_E_STORAGE for an I/O error that lasts (that micro-batch is
 * then gone), VG_E_BUG when nothing is wanted or no buffer was given back. */
vg_status vg_loader_take(vg_loader *loader, vg_batch **out);
void vg_loader_give_back(vg_loader *loader, vg_batch *batch);

/* Seconds that vg_loader_take waited since the loader was opened. */
double vg_loader_wait_s(const vg_loader *loader);

#endif
