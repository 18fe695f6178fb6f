/**
 * The wire between a volunteer and the coordinator: every message's schema, its type, and the closed list of refusals.
 *
 * Socket.IO events on the default namespace, each request answered through its acknowledgement with a `Reply`:
 *
 *     volunteer                       coordinator
 *     hello    who I am, my backend ─► identity, limits
 *     lease    give me work         ─► a Lease (or: wait so long)
 *     download bytes of a blob      ─► those bytes; several requests may be under way (the window)
 *     start    I begin this lease   ─► a Start: the parameter version it is bound to
 *     update   I finished           ─► accepted (with the next lease's Start and one more lease), or "send": in chunks
 *     chunk    bytes at offset      ─► how much has arrived
 *     finish   all bytes are sent   ─► accepted
 *     giveBack I stop               ─► the lease is free again
 *                                  ◄─ progress (how the run goes), refused (a message nobody asked an answer for)
 *
 * A small update travels inside `update`; a larger one is announced first, so that what nobody wants any more is not
 * sent; where it is sure of being wanted its chunks follow at once, as `finish` follows the last chunk. Uploads and
 * downloads resume at their last acknowledged byte. Nothing is trusted before its schema has parsed it.
 */
import { z } from 'zod'
import { BACKENDS } from './backends.ts'
import { CODECS } from './codec-names.ts'

/** Raised with every change that an older page could misread. */
export const PROTOCOL_VERSION = 6

/** A blob travels in chunks of this many bytes: heartbeats are never starved on a slow uplink. */
export const CHUNK_BYTES = 64 * 1024
/** And of up to this many on a line that answers within two seconds, however many there are (transfer.ts). */
export const CHUNK_MOST_BYTES = 256 * 1024
/** The largest Socket.IO frame taken; what is larger closes the connection with WebSocket code 1009. */
export const MAX_FRAME_BYTES = 1024 * 1024

/** What the sender of a refused message should do next. */
type NextStep = 'retry' | 'new-lease' | 'update-page' | 'stop'

/** Every refusal there is: what it means and what to do next. */
export const REFUSALS = {
  'protocol-version': 'update-page',
  malformed: 'stop',
  'junk-frame': 'stop',
  'hello-first': 'stop',
  /** The identity is not of this coordinator: forget it and say hello as a newcomer. */
  'bad-token': 'retry',
  'too-large': 'new-lease',
  'lease-unknown': 'new-lease',
  'lease-foreign': 'new-lease',
  'lease-expired': 'new-lease',
  'lease-settled': 'new-lease',
  'lease-not-started': 'new-lease',
  'version-unknown': 'new-lease',
  'version-gone': 'new-lease',
  'version-mismatch': 'new-lease',
  stale: 'new-lease',
  'wrong-length': 'new-lease',
  'non-finite': 'new-lease',
  'norm-too-large': 'new-lease',
  'impossible-count': 'new-lease',
  'transfer-unknown': 'new-lease',
  'transfer-out-of-order': 'retry',
  'blob-unknown': 'new-lease',
  'run-unknown': 'new-lease',
  'run-not-running': 'new-lease',
  'storage-full': 'retry',
  'storage-failed': 'retry',
  'rate-limited': 'retry',
  busy: 'retry',
  internal: 'retry',
} as const satisfies Record<string, NextStep>
export type RefusalCode = keyof typeof REFUSALS

export interface Refusal {
  ok: false
  code: RefusalCode
  /** For a person: what was expected, what came. */
  message: string
  next: NextStep
  /** With `next: 'retry'`: not before this many milliseconds. */
  retryAfterMs?: number
}

export type Reply<T> = ({ ok: true } & T) | Refusal

/** Whether an answer that is a refusal or something else is the refusal. */
export const isRefusal = (answer: object): answer is Refusal => 'code' in answer

export function refuse(code: RefusalCode, message: string, retryAfterMs?: number): Refusal {
  return { ok: false, code, message, next: REFUSALS[code], ...(retryAfterMs === undefined ? {} : { retryAfterMs }) }
}

const id = z.string().min(1).max(120)
const natural = z.int().min(0)
const hash = z.string().regex(/^[0-9a-f]{64}$/, 'expected a SHA-256 in hexadecimal')
const bytes = z.custom<Uint8Array>((value) => value instanceof Uint8Array, 'expected binary data')

// ---- requests: volunteer → coordinator ------------------------------------------------------------------------

const helloRequest = z.strictObject({
  protocol: z.int(),
  /** The identity of an earlier `hello`, so that who comes back is the same one. */
  token: z.string().max(400).optional(),
  /** Drawn once by each tab or process: two tabs of one identity are two volunteers, a reconnect is the same one. */
  instance: z.string().regex(/^[0-9a-z]{8,32}$/, 'expected 8 to 32 of 0-9a-z'),
  /** Proves a trusted volunteer: the key that the coordinator gave its own. */
  trustKey: z.string().max(400).optional(),
  backend: z.enum(BACKENDS),
  /** What computes, for people: "WebGPU (Apple M2)". */
  device: z.string().max(200),
  /** The run to work on; the coordinator chooses when absent. */
  run: id.optional(),
})
export type HelloRequest = z.infer<typeof helloRequest>

const leaseRequest = z.strictObject({})

/** What to download: an immutable blob by its hash (shard, model), or a run's parameters at a version. */
const blobName = z.union([z.strictObject({ hash }), z.strictObject({ run: id, version: natural })], {
  error: 'expected {hash}, a SHA-256 in hexadecimal, or {run, version}',
})
export type BlobName = z.infer<typeof blobName>

const downloadRequest = z.strictObject({
  blob: blobName,
  offset: natural,
  /** The answer brings fewer bytes where the blob ends. */
  length: natural.min(1).max(CHUNK_MOST_BYTES),
})
export type DownloadRequest = z.infer<typeof downloadRequest>

const startRequest = z.strictObject({ lease: id })

export const updateRequest = z.strictObject({
  lease: id,
  /** The version the lease was started at. */
  version: natural,
  /** Minibatches done: the lease's examples in order, `batchSize` at a time. 0 in an evaluation. */
  minibatches: natural,
  /** Examples those minibatches hold. */
  examples: natural,
  /** Sum of the examples' losses, before each step (nats); null, as JSON writes a NaN, where the model diverged. */
  lossSum: z.number().nullable(),
  /** Examples classified right; 0 where nothing is classified. */
  correct: natural,
  /** Sum of the objective's second measure (models.ts, Objective), where it has one. */
  measureSum: z.number().nullish(),
  /** Time spent computing, milliseconds. */
  computeMs: z.number().min(0),
  /**
   * Bytes of the encoded vector; of a classifier's evaluation, those of its outcomes: a class and an f32 loss an
   * example.
   */
  size: natural,
  /** The encoded vector itself, when it has at most CHUNK_BYTES. */
  payload: bytes.optional(),
  /** A lease already granted that is to start with the answer. */
  next: id.optional(),
})
export type UpdateRequest = z.infer<typeof updateRequest>

const chunkRequest = z.strictObject({ lease: id, offset: natural, bytes })

const finishRequest = z.strictObject({ lease: id, next: id.optional() })

const giveBackRequest = z.strictObject({ lease: id })
export type GiveBackRequest = z.infer<typeof giveBackRequest>

// ---- answers: coordinator → volunteer --------------------------------------------------------------------------

export const welcome = z.object({
  ok: z.literal(true),
  volunteer: id,
  /** To be kept and shown at the next `hello`. */
  token: z.string(),
  trusted: z.boolean(),
  /** Where the same blobs are served over HTTP (`<address>/<hash>`), when the operator put a CDN in front. */
  blobAddress: z.string().nullable(),
})
export type Welcome = z.infer<typeof welcome>

/** A stretch [from, to) of a shard's examples, counted in the epoch's shuffled order of that shard. */
export const segment = z.object({ shard: hash, shardIndex: natural, epoch: natural, from: natural, to: natural })
export type Segment = z.infer<typeof segment>

export const lease = z.object({
  id,
  run: id,
  /** Of which stage of the run. */
  stage: natural,
  /** `gradient`: accrue minibatch gradients; `evaluate`: the objective's sums over the examples. */
  kind: z.enum(['gradient', 'evaluate']),
  /**
   * The version that it will be started at, where that is certain already: its parameters may be fetched beside its
   * examples.
   */
  version: natural.nullable(),
  /** The blob that describes the model: JSON of a `ModelBlob` (models.ts). */
  model: hash,
  /**
   * The run's seed. The order of a segment's examples is that of Random(seed, Stream.shuffle, epoch, shardIndex) where
   * `shuffled`, else as stored; an example's draw key is Random(seed, Stream.lease, stage, epoch, shardIndex, its place
   * in the shard as stored).
   */
  seed: natural,
  shuffled: z.boolean(),
  /**
   * Of the examples only a Bernoulli sample is taken: those for which Random(seed, Stream.sample, epoch,
   * shardIndex).uniform(place in the shard as stored) is below this; 1 takes all. The update counts what was taken.
   */
  fraction: z.number().gt(0).max(1),
  /**
   * What a minibatch's gradient is multiplied by before it is accrued: 1 (`mean`), or its number of examples (`sum`).
   */
  reduce: z.enum(['mean', 'sum']),
  /**
   * The update is two vectors, one after the other: the sum of the minibatches' gradients, and what its rounding lost.
   * So the sum does not depend on how the minibatches were shared out.
   */
  compensated: z.boolean(),
  /**
   * The lease after this one is begun before this one's update is answered, so that sending, folding and fetching take
   * no time from computing: its parameters lack this update.
   */
  overlaps: z.boolean(),
  /**
   * Nothing that others do makes the update useless, unless it is late: its chunks may follow its announcement at once.
   */
  sure: z.boolean(),
  batchSize: z.int().min(1),
  /** The examples, in order. */
  segments: z.array(segment).min(1),
  /** The time box: no minibatch is begun once so many milliseconds of compute are spent. */
  budgetMs: z.number(),
  codec: z.enum(CODECS),
  /** The codec of the parameters to download. */
  parametersCodec: z.enum(['f32', 'f16']),
})
export type Lease = z.infer<typeof lease>

/** A lease bound to a parameter version: from here on it is a pure function of what it names. */
export const start = z.object({
  lease: id,
  version: natural,
  /** α: after each minibatch the replica moves by -α·gradient; 0 leaves it at the version. */
  localRate: z.number(),
  /** The lease whose final replica this one goes on from, where that is still at hand; else the version itself. */
  continues: id.nullable(),
  /** The update must be announced within so many milliseconds from now. */
  deadlineMs: z.number(),
})
export type Start = z.infer<typeof start>

const leaseReply = z.union([
  z.object({ ok: z.literal(true), lease }),
  z.object({ ok: z.literal(true), waitMs: z.number(), reason: z.string() }),
])
export type LeaseReply = z.infer<typeof leaseReply>

const startReply = z.object({ ok: z.literal(true), start })

const downloadReply = z.object({
  ok: z.literal(true),
  /** Bytes of the whole blob, and its SHA-256. */
  size: natural,
  hash,
  bytes,
})

export const verdict = z.union([
  z.object({
    ok: z.literal(true),
    verdict: z.literal('accepted'),
    /** The version this update became part of. */
    version: natural,
    staleness: natural,
    /** Of the lease that `next` named. */
    start: start.optional(),
    /** With a start: one more lease, to be fetched while that one is computed. */
    lease: lease.optional(),
  }),
  z.object({ ok: z.literal(true), verdict: z.literal('send'), offset: natural }),
])
export type Verdict = z.infer<typeof verdict>

const chunkReply = z.object({ ok: z.literal(true), received: natural })

export const done = z.object({ ok: z.literal(true) })

export const refusal = z.object({
  ok: z.literal(false),
  code: z.enum(Object.keys(REFUSALS) as [RefusalCode, ...RefusalCode[]]),
  message: z.string(),
  next: z.enum(['retry', 'new-lease', 'update-page', 'stop']),
  retryAfterMs: z.number().optional(),
})

/** How the volunteer's run goes, in numbers a page can put into words; sent when it changed, at most once a second. */
export const progress = z.object({
  run: id,
  name: z.string(),
  state: z.enum(['draft', 'running', 'paused', 'finished', 'failed']),
  epoch: z.number(),
  epochs: natural,
  /** Test accuracy of the newest evaluation, 0..1. */
  accuracy: z.number().nullable(),
  loss: z.number().nullable(),
  volunteers: natural,
})
export type Progress = z.infer<typeof progress>

/** The requests by event name, with the schema of what is asked and of what is answered. */
export const EVENTS = {
  hello: { request: helloRequest, answer: welcome },
  lease: { request: leaseRequest, answer: leaseReply },
  download: { request: downloadRequest, answer: downloadReply },
  start: { request: startRequest, answer: startReply },
  update: { request: updateRequest, answer: verdict },
  chunk: { request: chunkRequest, answer: chunkReply },
  finish: { request: finishRequest, answer: verdict },
  giveBack: { request: giveBackRequest, answer: done },
} as const
export type EventName = keyof typeof EVENTS
export type RequestOf<E extends EventName> = z.infer<(typeof EVENTS)[E]['request']>
export type AnswerOf<E extends EventName> = z.infer<(typeof EVENTS)[E]['answer']>
