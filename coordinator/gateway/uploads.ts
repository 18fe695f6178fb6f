/**
 * Updates on their way in: announced, then received chunk by chunk. An upload outlives its connection, so
 * one that was cut off goes on where it was. A volunteer sends one after another: the next one that it announces takes
 * the place of the one before.
 */
import { CHUNK_BYTES, isRefusal, type Refusal, type Reply, refuse, type UpdateRequest } from '../../shared/protocol.ts'
import { Incoming } from '../../shared/transfer.ts'

/** Bytes of all unfinished uploads together; more are told to come later. */
const BUDGET_BYTES = 1024 * 1024 * 1024
/** An upload to which nothing was added for so long is forgotten. */
const IDLE_MS = 120_000
const BUSY_RETRY_MS = 2_000

interface Upload {
  readonly update: UpdateRequest
  readonly incoming: Incoming
  lastMs: number
}

export class Uploads {
  /** By volunteer. */
  private readonly uploads = new Map<string, Upload>()
  private reserved = 0

  /** Begins an upload, or finds the one that was cut off; answers with the bytes that are here already. */
  open(volunteer: string, update: UpdateRequest, now: number): Reply<{ offset: number }> {
    const known = this.find(volunteer, update.lease)
    if (!isRefusal(known)) return { ok: true, offset: known.incoming.received }
    this.drop(volunteer)
    if (this.reserved + update.size > BUDGET_BYTES) {
      return refuse('busy', 'too many updates are arriving at once', BUSY_RETRY_MS)
    }
    this.reserved += update.size
    this.uploads.set(volunteer, { update, incoming: new Incoming(update.size), lastMs: now })
    return { ok: true, offset: 0 }
  }

  chunk(volunteer: string, lease: string, offset: number, bytes: Uint8Array, now: number): Reply<{ received: number }> {
    const upload = this.find(volunteer, lease)
    if (isRefusal(upload)) return upload
    const { incoming } = upload
    const expected = Math.min(CHUNK_BYTES, incoming.size - incoming.received)
    // Every chunk renews the upload's time: bytes that dribble in one by one would hold their lease for ever.
    if (offset === incoming.received && bytes.length < expected) {
      return refuse('malformed', `expected a chunk of at least ${expected} bytes, got ${bytes.length}`)
    }
    const taken = incoming.take(offset, bytes)
    if (!taken.ok) return refuse(taken.code, taken.message)
    upload.lastMs = now
    return { ok: true, received: taken.received }
  }

  /** The update and its bytes, all here. It stays until `close`, since the disk may be full when it is submitted. */
  finish(volunteer: string, lease: string): Refusal | { update: UpdateRequest; payload: Uint8Array } {
    const upload = this.find(volunteer, lease)
    if (isRefusal(upload)) return upload
    const { update, incoming } = upload
    if (!incoming.complete) {
      return refuse('transfer-out-of-order', `expected ${incoming.size} bytes before finish, have ${incoming.received}`)
    }
    return { update, payload: incoming.bytes() }
  }

  /** The update was taken, or never will be. */
  close(volunteer: string, lease: string): void {
    if (this.uploads.get(volunteer)?.update.lease === lease) this.drop(volunteer)
  }

  expire(now: number): void {
    for (const [volunteer, { lastMs }] of this.uploads) if (now - lastMs > IDLE_MS) this.drop(volunteer)
  }

  private drop(volunteer: string): void {
    this.reserved -= this.uploads.get(volunteer)?.incoming.size ?? 0
    this.uploads.delete(volunteer)
  }

  private find(volunteer: string, lease: string): Upload | Refusal {
    const upload = this.uploads.get(volunteer)
    if (upload?.update.lease !== lease)
      return refuse('transfer-unknown', `no upload is open for lease ${lease}; announce the update first`)
    return upload
  }
}
