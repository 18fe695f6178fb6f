/**
 * Updates on their way in: announced, then received chunk by chunk. An upload outlives its connection, so
 * one that was cut off goes on where it was.
 */
import { CHUNK_BYTES, isRefusal, type Refusal, type Reply, refuse, type UpdateRequest } from '../../shared/protocol.ts'
import { Incoming } from '../../shared/transfer.ts'

/** Bytes of all unfinished uploads together; more are told to come later. */
const BUDGET_BYTES = 1024 * 1024 * 1024
/** An upload to which nothing was added for so long is forgotten. */
const IDLE_MS = 120_000
const BUSY_RETRY_MS = 2_000
/** A volunteer holds so many leases; of an upload beyond that the lease has ended. */
const UPLOADS_PER_VOLUNTEER = 3

interface Upload {
  readonly volunteer: string
  readonly update: UpdateRequest
  readonly incoming: Incoming
  lastMs: number
}

export class Uploads {
  private readonly uploads = new Map<string, Upload>()
  private reserved = 0

  /** Begins an upload, or finds the one that was cut off; answers with the bytes that are here already. */
  open(volunteer: string, update: UpdateRequest, now: number): Reply<{ offset: number }> {
    const known = this.find(volunteer, update.lease)
    if (!isRefusal(known)) return { ok: true, offset: known.incoming.received }
    const theirs = [...this.uploads.values()].filter((upload) => upload.volunteer === volunteer)
    if (theirs.length >= UPLOADS_PER_VOLUNTEER) this.close(theirs[0].update.lease)
    if (this.reserved + update.size > BUDGET_BYTES) {
      return refuse('busy', 'too many updates are arriving at once', BUSY_RETRY_MS)
    }
    this.reserved += update.size
    this.uploads.set(update.lease, { volunteer, update, incoming: new Incoming(update.size), lastMs: now })
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

  close(lease: string): void {
    const upload = this.uploads.get(lease)
    if (upload === undefined) return
    this.uploads.delete(lease)
    this.reserved -= upload.incoming.size
  }

  expire(now: number): void {
    for (const [lease, { lastMs }] of this.uploads) if (now - lastMs > IDLE_MS) this.close(lease)
  }

  private find(volunteer: string, lease: string): Upload | Refusal {
    const upload = this.uploads.get(lease)
    if (upload?.volunteer !== volunteer)
      return refuse('transfer-unknown', `no upload is open for lease ${lease}; announce the update first`)
    return upload
  }
}
