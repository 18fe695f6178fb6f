/**
 * Payloads on their way to the journal's thread lie in one piece of shared memory, first in, first out, so that an
 * update costs no allocation on either side. What does not fit travels by itself.
 */

/** Several large models' updates, or a hundred small ones. */
const RING_BYTES = 16 * 1024 * 1024

export interface Place {
  readonly offset: number
  readonly length: number
}

export class PayloadRing {
  readonly memory: SharedArrayBuffer
  private readonly bytes: Uint8Array
  /** Places in use, oldest first; they are freed in the same order. */
  private readonly places: Place[] = []

  constructor(sizeBytes = RING_BYTES) {
    this.memory = new SharedArrayBuffer(sizeBytes)
    this.bytes = new Uint8Array(this.memory)
  }

  /** Copies the payload in; null where there is no room for it now. */
  put(payload: Uint8Array): Place | null {
    const offset = this.room(payload.length)
    if (offset === null) return null
    this.bytes.set(payload, offset)
    const place = { offset, length: payload.length }
    this.places.push(place)
    return place
  }

  /** The oldest places, so many of them, are free again. */
  free(count: number): void {
    this.places.splice(0, count)
  }

  private room(length: number): number | null {
    const oldest = this.places[0]
    const newest = this.places.at(-1)
    if (oldest === undefined || newest === undefined) return length <= this.bytes.length ? 0 : null
    const end = newest.offset + newest.length
    if (newest.offset >= oldest.offset) {
      if (end + length <= this.bytes.length) return end
      // Around the end; strictly below the oldest, so that full and empty cannot be mistaken.
      return length < oldest.offset ? 0 : null
    }
    return end + length < oldest.offset ? end : null
  }
}
