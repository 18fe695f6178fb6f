/**
 * Moving bytes over a session: blobs and parameters down, updates up.
 *
 * Both ways go in chunks with a window of them under way (shared/transfer.ts), and both survive lost connections. A
 * download asks for chunks by offset, each of which may be asked again, so it goes on with the first byte that is
 * missing. An upload is announced, sent and finished; what comes over one connection is dealt with in order, so no step
 * waits for the answer to the one before, but for leave to send what may be unwanted by now. When the connection is
 * lost anywhere in between, it is announced again, and the answer says from where to go on, or that the update was
 * taken already and only its acknowledgement was lost.
 *
 * A blob that is named by its hash is looked for in the cache, then at the address that the coordinator advertises,
 * then asked of the coordinator; wherever it comes from, bytes that do not have the hash are not taken.
 */
import { type AnswerOf, type BlobName, CHUNK_BYTES, type UpdateRequest } from '../../shared/protocol.ts'
import { Incoming, Outgoing } from '../../shared/transfer.ts'
import type { BlobCache } from './blobs.ts'
import { ConnectionLost, Refused } from './connection.ts'
import { handled } from './handled.ts'
import type { Session } from './session.ts'

const HTTP_WITHIN_MS = 60_000
/** No shard, model or version is larger; what says so is not believed. */
const MAX_BLOB_BYTES = 1024 ** 3

/** Bytes came that are not what was asked for. */
export class BadBlob extends Error {
  override readonly name = 'BadBlob'
}

export type Accepted = Extract<AnswerOf<'update'>, { verdict: 'accepted' }>

/** A blob by its hash: from the cache, over HTTP, or over the session. */
export async function fetchBlob(session: Session, cache: BlobCache, hash: string): Promise<Uint8Array> {
  const cached = await cache.get(hash)
  if (cached && (await hasHash(cached, hash))) return cached
  const address = session.welcome?.blobAddress
  const bytes =
    (address && (await overHttp(`${address.replace(/\/$/, '')}/${hash}`, hash))) || (await download(session, { hash }))
  await cache.put(hash, bytes)
  return bytes
}

async function overHttp(address: string, hash: string): Promise<Uint8Array | null> {
  try {
    const response = await fetch(address, { signal: AbortSignal.timeout(HTTP_WITHIN_MS) })
    if (!response.ok) return null
    const bytes = new Uint8Array(await response.arrayBuffer())
    return (await hasHash(bytes, hash)) ? bytes : null
  } catch {
    // The coordinator has it too.
    return null
  }
}

/** Downloads a blob over the session. `expectedSize`, where it is known, fills the window from the beginning. */
export async function download(session: Session, blob: BlobName, expectedSize = CHUNK_BYTES): Promise<Uint8Array> {
  let incoming: Incoming | null = null
  let hash = ''
  let asking = new Outgoing(expectedSize)
  let underWay: { length: number; asked: Asked<'download'> }[] = []
  let failures = 0
  for (;;) {
    for (let cut = asking.next(); cut; cut = asking.next()) {
      underWay.push({ length: cut.length, asked: asked(session, session.askOnce('download', { blob, ...cut })) })
    }
    const next = underWay.shift()!
    const came = await next.asked.catch((error) => session.untilWorthRetrying(error, failures++))
    if (!came) {
      // Of what is not here yet nothing is under way any more, and the line may be another one.
      asking.resume(incoming?.received ?? 0)
      underWay = []
      continue
    }
    const { answer, tookMs } = came
    failures = 0
    if (incoming === null) {
      if (answer.size > MAX_BLOB_BYTES) throw new BadBlob(`a blob of ${answer.size} bytes was offered`)
      incoming = new Incoming(answer.size)
      hash = answer.hash
    }
    if (answer.size !== incoming.size || answer.hash !== hash)
      throw new BadBlob(`${nameOf(blob)} changed while it came`)
    const offset = incoming.received
    const taken = incoming.take(offset, answer.bytes)
    if (!taken.ok) throw new BadBlob(taken.message)
    if (incoming.complete) break
    if (answer.bytes.length === 0) throw new BadBlob(`${nameOf(blob)} ended at byte ${offset} of ${incoming.size}`)
    const asAsked = asking.size === incoming.size && answer.bytes.length === next.length
    if (asAsked) asking.acknowledge(taken.received, tookMs)
    else {
      // The blob is not as long as expected, or its chunks are not: ask on from here.
      asking = new Outgoing(incoming.size, taken.received)
      underWay = []
    }
  }
  const bytes = incoming.bytes()
  if (!(await hasHash(bytes, 'hash' in blob ? blob.hash : hash)))
    throw new BadBlob(`${nameOf(blob)} does not have its hash`)
  return bytes
}

/**
 * Announces an update and sends it, where that is `sure` of being wanted without waiting for leave. `next` is asked at
 * the last moment which lease is to start with the answer. Returns null when the coordinator says that the lease had
 * settled before an acknowledgement that was lost.
 */
export async function submit(
  session: Session,
  update: Omit<UpdateRequest, 'size' | 'payload' | 'next'>,
  payload: Uint8Array,
  next: () => string | undefined,
  sure = false,
): Promise<Accepted | null> {
  const upload = new Outgoing(payload.length)
  const inline = payload.length > 0 && payload.length <= CHUNK_BYTES ? { payload } : {}
  /** An announcement went out whose answer never came. */
  let inDoubt = false
  for (let attempt = 0; ; attempt++) {
    try {
      const announced = session.askOnce('update', { ...update, size: payload.length, ...inline, ...named(next()) })
      const early = sure && attempt === 0 && payload.length > CHUNK_BYTES
      const sent = early ? handled(send(session, update.lease, upload, payload, next)) : null
      let verdict = await announced
      if (sent !== null && verdict.verdict === 'send') verdict = await sent
      while (verdict.verdict === 'send') {
        upload.resume(verdict.offset)
        verdict = await send(session, update.lease, upload, payload, next)
      }
      return verdict
    } catch (error) {
      if (inDoubt && error instanceof Refused && error.refusal.code === 'lease-settled') return null
      await session.untilWorthRetrying(error, attempt)
      if (error instanceof ConnectionLost) inDoubt = true
    }
  }
}

const named = (lease: string | undefined) => (lease === undefined ? {} : { next: lease })

/** Says that it is finished with the last chunk, which is dealt with before: no round trip is lost. */
async function send(
  session: Session,
  lease: string,
  upload: Outgoing,
  payload: Uint8Array,
  next: () => string | undefined,
): Promise<AnswerOf<'finish'>> {
  const finish = () => handled(session.askOnce('finish', { lease, ...named(next()) }))
  let finished: ReturnType<typeof finish> | null = null
  const underWay: Asked<'chunk'>[] = []
  while (!upload.complete) {
    for (let cut = upload.next(); cut; cut = upload.next()) {
      const bytes = payload.subarray(cut.offset, cut.offset + cut.length)
      underWay.push(asked(session, session.askOnce('chunk', { lease, offset: cut.offset, bytes })))
    }
    if (upload.allSent) finished ??= finish()
    const chunk = await underWay.shift()
    if (chunk === undefined) throw new ConnectionLost('the upload came to a halt')
    upload.acknowledge(chunk.answer.received, chunk.tookMs)
  }
  return finished ?? finish()
}

/** A chunk's answer, and how long it was under way. */
type Asked<E extends 'download' | 'chunk'> = Promise<{ readonly answer: AnswerOf<E>; readonly tookMs: number }>

function asked<E extends 'download' | 'chunk'>({ clock }: Session, asking: Promise<AnswerOf<E>>): Asked<E> {
  const since = clock.now()
  // Several are under way and awaited in order.
  return handled(asking.then((answer) => ({ answer, tookMs: clock.now() - since })))
}

/** True where it cannot be told: crypto.subtle exists on secure origins only. */
async function hasHash(bytes: Uint8Array, hash: string): Promise<boolean> {
  if (!globalThis.crypto?.subtle) return true
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes as Uint8Array<ArrayBuffer>))
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('') === hash
}

function nameOf(blob: BlobName): string {
  return 'hash' in blob ? `blob ${blob.hash.slice(0, 12)}` : `version ${blob.version} of ${blob.run}`
}
