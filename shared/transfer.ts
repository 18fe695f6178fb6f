/**
 * The two ends of a chunked transfer, as state machines without a socket: which bytes to send (or ask for) next, and
 * putting together what arrives. Both sides of the wire use them; neither reads a clock nor does any I/O.
 *
 * Outgoing: everything below `received` is at the other end, everything in [received, sent) is under way, and no more
 * than a window of it. The window fits itself to the line: it widens by what is acknowledged promptly, so that a fast
 * line with a long way is filled, and is halved where a chunk waited long, so that on a slow line heartbeats do not
 * wait behind chunks. With the window the chunks grow, four to a wide one: what a chunk costs beside its bytes is most
 * of what a fast line waits for. An acknowledgement moves `received` up; a lost connection moves `sent` back to what
 * the other end says it has. Nothing before `received` is ever sent again, so a transfer that is cut off any number of
 * times costs at most a window of bytes each time.
 *
 * Incoming: bytes are taken in order only. A chunk that does not begin exactly where the last one ended, or runs over
 * the announced size, is refused and changes nothing.
 */
import { CHUNK_BYTES, CHUNK_MOST_BYTES, type RefusalCode } from './protocol.ts'

/** CHUNK_BYTES that may be under way unacknowledged at first: a small model's parameters cost one round trip. */
export const WINDOW_FIRST = 4
/** And at most: 80 Mbit/s over a way of 100 ms. */
export const WINDOW_MOST = 16
/** And at least: one is sent while the other is acknowledged. */
export const WINDOW_LEAST = 2
/** A wide window is sent in so many chunks. */
const CHUNKS_A_WINDOW = 4
/**
 * From a chunk's sending to its acknowledgement: up to this the window widens by the chunk, past it by one a window.
 */
const PROMPT_MS = 250
/** From here on it is halved. */
const LATE_MS = 2_000

/** A stretch of a blob: `length` bytes from `offset`. */
export interface Cut {
  offset: number
  length: number
}

export class Outgoing {
  readonly size: number
  /** Bytes the other end has acknowledged. */
  received: number
  private sent: number
  /** CHUNK_BYTES. */
  private window = WINDOW_FIRST
  /** What was sent before here waited behind the window of before. */
  private narrowedAt = 0

  /** `from`: the other end has so many bytes already. */
  constructor(size: number, from = 0) {
    this.size = size
    this.received = clamp(from, size)
    this.sent = this.received
  }

  /** The next chunk to send, null while the window is full or when everything is under way. */
  next(): Cut | null {
    const length = Math.min(this.chunkBytes, this.size - this.sent)
    if (length === 0 || this.sent + length > this.received + Math.floor(this.window) * CHUNK_BYTES) return null
    const cut = { offset: this.sent, length }
    this.sent += length
    return cut
  }

  private get chunkBytes(): number {
    const chunks = Math.max(1, Math.floor(this.window / CHUNKS_A_WINDOW))
    return Math.min(CHUNK_MOST_BYTES, chunks * CHUNK_BYTES)
  }

  /** The other end has everything below `received`, as it said so long after the chunk was sent. */
  acknowledge(received: number, tookMs: number): void {
    // An older acknowledgement moves nothing.
    const reached = Math.max(this.received, clamp(received, this.sent))
    if (tookMs < LATE_MS) {
      const wider = (reached - this.received) / CHUNK_BYTES
      this.window = Math.min(WINDOW_MOST, this.window + (tookMs <= PROMPT_MS ? wider : wider / this.window))
    } else if (received > this.narrowedAt) {
      this.window = Math.max(WINDOW_LEAST, this.window / 2)
      this.narrowedAt = this.sent
    }
    this.received = reached
  }

  /** After a lost connection: what was under way counts as lost, the other end has `received` bytes. */
  resume(received: number): void {
    this.received = clamp(received, this.size)
    this.sent = this.received
    this.window = WINDOW_FIRST
    this.narrowedAt = 0
  }

  /** Nothing is left to send: what is not received is under way. */
  get allSent(): boolean {
    return this.sent === this.size
  }

  get complete(): boolean {
    return this.received === this.size
  }
}

type Taken =
  | { ok: true; received: number }
  | { ok: false; code: Extract<RefusalCode, 'transfer-out-of-order' | 'too-large'>; message: string }

export class Incoming {
  readonly size: number
  /** Bytes here, from the start without a gap. */
  received = 0
  private readonly buffer: Uint8Array<ArrayBuffer>

  constructor(size: number) {
    this.size = size
    this.buffer = new Uint8Array(size)
  }

  take(offset: number, bytes: Uint8Array): Taken {
    if (offset !== this.received) {
      return {
        ok: false,
        code: 'transfer-out-of-order',
        message: `expected bytes from ${this.received}, got from ${offset}`,
      }
    }
    if (offset + bytes.length > this.size) {
      const message = `expected ${this.size} bytes in all, got up to byte ${offset + bytes.length}`
      return { ok: false, code: 'too-large', message }
    }
    this.buffer.set(bytes, offset)
    this.received += bytes.length
    return { ok: true, received: this.received }
  }

  get complete(): boolean {
    return this.received === this.size
  }

  /** The whole blob. Only once it is complete; throws before. */
  bytes(): Uint8Array<ArrayBuffer> {
    if (!this.complete) throw new Error(`invariant: read a transfer with ${this.received} of ${this.size} bytes`)
    return this.buffer
  }
}

function clamp(bytes: number, size: number): number {
  return Math.min(Math.max(bytes, 0), size)
}
