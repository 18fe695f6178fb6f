/** Downloads of a volunteer: checked, resumed, kept. */
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { MemoryBlobs } from '../../client/volunteer/blobs.ts'
import { Refused } from '../../client/volunteer/connection.ts'
import { Session } from '../../client/volunteer/session.ts'
import { BadBlob, download, fetchBlob, submit } from '../../client/volunteer/transfer.ts'
import { CHUNK_BYTES, CHUNK_MOST_BYTES, type UpdateRequest } from '../../shared/protocol.ts'
import { WINDOW_FIRST, WINDOW_LEAST, WINDOW_MOST } from '../../shared/transfer.ts'
import { PromptClock } from '../support/prompt-clock.ts'
import { sha256, WireCoordinator } from '../support/wire-coordinator.ts'

const bytesOf = (length: number) => Uint8Array.from({ length }, (_, i) => (i * 31 + (i >> 8)) & 255)
const same = (a: Uint8Array, b: Uint8Array) => Buffer.compare(a, b) === 0

let coordinator: WireCoordinator
let stopping: AbortController
let session: Session
let clock: PromptClock
let cdn: Server | null = null

beforeEach(async () => {
  coordinator = await WireCoordinator.listen()
  stopping = new AbortController()
  clock = new PromptClock()
  session = open(coordinator.url)
})

afterEach(async () => {
  stopping.abort(new Error('the test is over'))
  await session.leave([])
  await coordinator.close()
  cdn?.close()
  cdn = null
})

function open(address: string): Session {
  return new Session({
    address,
    token: null,
    instance: 'abcdefgh',
    trustKey: null,
    backend: 'cpu',
    device: 'a test',
    run: null,
    clock,
    uniform: () => 1,
    stopping: stopping.signal,
    changed: () => {},
  })
}

/** The stretches of a transfer, in the order in which they were asked for or sent. */
const lengths = (event: 'download' | 'chunk') =>
  coordinator.log
    .filter((logged) => logged.event === event)
    .map(({ request }) => (event === 'chunk' ? (request.bytes as Uint8Array).length : (request.length as number)))
const sum = (sizes: readonly number[]) => sizes.reduce((total, size) => total + size, 0)
/** They follow each other, from the first byte to the last; one of unknown size is asked for as a whole chunk. */
function expectOnce(event: 'download' | 'chunk', size: number): void {
  const sizes = lengths(event)
  expect(offsets(event)).toEqual(sizes.map((_, i) => sum(sizes.slice(0, i))))
  expect(sum(sizes)).toBe(event === 'download' ? Math.max(size, CHUNK_BYTES) : size)
}
const offsets = (event: 'download' | 'chunk') =>
  coordinator.log.filter((logged) => logged.event === event).map(({ request }) => request.offset as number)

describe('a download', () => {
  test.each([1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 9 * CHUNK_BYTES + 5, 3 * WINDOW_MOST * CHUNK_BYTES])(
    'of %i bytes arrives whole',
    async (size) => {
      const blob = bytesOf(size)
      const hash = coordinator.putBlob(blob)
      expect(same(await download(session, { hash }), blob)).toBe(true)
      // Every byte once, and no more under way than the window.
      expectOnce('download', size)
      expect(coordinator.mostDownloads).toBeLessThanOrEqual(WINDOW_MOST)
    },
  )

  test('of a known size fills the window from the beginning, and a wider one with every prompt answer', async () => {
    const chunks = 40
    const blob = bytesOf(chunks * CHUNK_BYTES)
    coordinator.putVersion('run', 3, blob)
    // No chunk is answered before as much is under way as may be, in whole chunks.
    let answered = 0
    coordinator.hold = (event, { offset }) => {
      if (event !== 'download') return undefined
      const window = Math.min(WINDOW_MOST, WINDOW_FIRST + answered++) * CHUNK_BYTES
      const asked = Math.min(blob.length, offset + window - (CHUNK_MOST_BYTES - CHUNK_BYTES))
      return coordinator.until(() => sum(lengths('download')) >= asked)
    }
    expect(same(await download(session, { run: 'run', version: 3 }, blob.length), blob)).toBe(true)
    expectOnce('download', blob.length)
    expect(lengths('download').slice(0, WINDOW_FIRST)).toEqual(Array(WINDOW_FIRST).fill(CHUNK_BYTES))
    expect(Math.max(...lengths('download'))).toBe(CHUNK_MOST_BYTES)
  })

  test('over a slow line has few chunks under way', async () => {
    const blob = bytesOf(12 * CHUNK_BYTES)
    coordinator.putVersion('run', 3, blob)
    const underWay: number[] = []
    let answered = 0
    coordinator.hold = (event) => {
      if (event !== 'download') return undefined
      underWay.push(offsets('download').length - answered++)
      clock.advance(2_000)
      return undefined
    }
    expect(same(await download(session, { run: 'run', version: 3 }, blob.length), blob)).toBe(true)
    expect(Math.max(...underWay.slice(WINDOW_FIRST))).toBeLessThanOrEqual(WINDOW_LEAST)
  })

  test.each([10 * CHUNK_BYTES, CHUNK_BYTES + 7])(
    'expected to be of %i bytes arrives whole although it is not',
    async (expected) => {
      const blob = bytesOf(3 * CHUNK_BYTES + 11)
      coordinator.putVersion('run', 3, blob)
      expect(same(await download(session, { run: 'run', version: 3 }, expected), blob)).toBe(true)
    },
  )

  test('goes on with the first missing byte after the connection was lost', async () => {
    const chunks = 4 * WINDOW_MOST
    const blob = bytesOf(chunks * CHUNK_BYTES)
    const hash = coordinator.putBlob(blob)
    coordinator.intervene = (event, _request, count) =>
      event === 'download' && count % 10 === 0 ? 'cut-before' : undefined
    expect(same(await download(session, { hash }), blob)).toBe(true)
    expect(coordinator.hellos.length).toBeGreaterThan(1)
    // What had arrived is not asked for again: at most a window is, for each cut.
    const cuts = coordinator.hellos.length - 1
    expect(sum(lengths('download'))).toBeLessThanOrEqual(blob.length + cuts * WINDOW_MOST * CHUNK_BYTES)
    expect(offsets('download').filter((offset) => offset === 0)).toHaveLength(1)
  })

  test('asks for small chunks after the connection was lost: the line may be another one', async () => {
    const blob = bytesOf(6 * WINDOW_MOST * CHUNK_BYTES)
    coordinator.putVersion('run', 3, blob)
    let askedBefore = 0
    coordinator.intervene = (event, { length }: { length?: number }) => {
      if (event !== 'download' || askedBefore > 0 || length !== CHUNK_MOST_BYTES) return undefined
      askedBefore = offsets('download').length
      return 'cut-before'
    }
    expect(same(await download(session, { run: 'run', version: 3 }, blob.length), blob)).toBe(true)
    expect(coordinator.hellos).toHaveLength(2)
    // Some large ones may have been on their way when it was lost.
    const after = lengths('download').slice(askedBefore)
    const first = after.indexOf(CHUNK_BYTES)
    expect(first).toBeLessThan(4)
    expect(after.slice(first, first + WINDOW_FIRST)).toEqual(Array(WINDOW_FIRST).fill(CHUNK_BYTES))
  })

  test('of bytes that do not have the hash is not taken', async () => {
    const hash = sha256(bytesOf(10))
    coordinator.blobs.set(hash, bytesOf(11))
    await expect(download(session, { hash })).rejects.toThrow(BadBlob)
  })

  test('of an unknown blob is refused with its code', async () => {
    const refused = await download(session, { hash: sha256(bytesOf(1)) }).catch((error) => error)
    expect(refused).toBeInstanceOf(Refused)
    expect(refused.refusal).toMatchObject({ code: 'blob-unknown', next: 'new-lease' })
  })

  test('put off by the coordinator is asked again after the time it named', async () => {
    const hash = coordinator.putBlob(bytesOf(10))
    coordinator.intervene = (event, _request, count) =>
      event === 'download' && count === 1
        ? { ok: false, code: 'rate-limited', message: 'read first', next: 'retry', retryAfterMs: 777 }
        : undefined
    expect(await download(session, { hash })).toHaveLength(10)
    expect(clock.slept).toContain(777)
  })
})

describe('a blob by its hash', () => {
  test('is downloaded once', async () => {
    const cache = new MemoryBlobs()
    const hash = coordinator.putBlob(bytesOf(100))
    await fetchBlob(session, cache, hash)
    await fetchBlob(session, cache, hash)
    expect(offsets('download')).toEqual([0])
  })

  test('that the cache has wrong is downloaded again', async () => {
    const cache = new MemoryBlobs()
    const hash = coordinator.putBlob(bytesOf(100))
    await cache.put(hash, bytesOf(99))
    expect(await fetchBlob(session, cache, hash)).toHaveLength(100)
  })

  test('leaves the memory cache when others are used more', async () => {
    const cache = new MemoryBlobs(250)
    for (const hash of ['a', 'b', 'a', 'c']) await cache.put(hash, bytesOf(100))
    expect(await cache.get('b')).toBeUndefined()
    expect(await cache.get('a')).toHaveLength(100)
    expect(await cache.get('c')).toHaveLength(100)
  })

  test('comes from the advertised address, and from the coordinator where that does not have it', async () => {
    const there = bytesOf(100)
    const wrong = bytesOf(101)
    const missing = bytesOf(102)
    const [hash, wrongHash, missingHash] = [there, wrong, missing].map((blob) => coordinator.putBlob(blob))
    const asked: string[] = []
    cdn = createServer(({ url = '' }, response) => {
      asked.push(url)
      if (url === `/blobs/${hash}`) response.end(there)
      else if (url === `/blobs/${wrongHash}`) response.end(there)
      else response.writeHead(404).end()
    })
    await new Promise<void>((resolve) => cdn!.listen(0, '127.0.0.1', resolve))
    coordinator.blobAddress = `http://127.0.0.1:${(cdn.address() as AddressInfo).port}/blobs/`
    await session.ask('giveBack', { lease: 'x' })

    expect(same(await fetchBlob(session, new MemoryBlobs(), hash), there)).toBe(true)
    expect(offsets('download')).toEqual([])
    expect(same(await fetchBlob(session, new MemoryBlobs(), wrongHash), wrong)).toBe(true)
    expect(same(await fetchBlob(session, new MemoryBlobs(), missingHash), missing)).toBe(true)
    expect(offsets('download')).toEqual([0, 0])
    expect(asked).toEqual([hash, wrongHash, missingHash].map((name) => `/blobs/${name}`))
  })
})

describe('an update', () => {
  const update: Omit<UpdateRequest, 'size' | 'payload' | 'next'> = {
    lease: 'l1',
    version: 0,
    minibatches: 1,
    examples: 4,
    lossSum: 2,
    correct: 1,
    measureSum: null,
    computeMs: 5,
  }
  beforeEach(() => session.ask('start', { lease: 'l1' }))

  test.each([0, 10, CHUNK_BYTES])('of %i bytes travels inside its message', async (size) => {
    const accepted = await submit(session, update, bytesOf(size), () => undefined)
    expect(accepted).toMatchObject({ verdict: 'accepted', version: 1 })
    expect(same(coordinator.updates[0].bytes, bytesOf(size))).toBe(true)
    expect(coordinator.events()).not.toContain('chunk')
  })

  test('that is larger is announced, sent in a window and finished', async () => {
    const payload = bytesOf(10 * CHUNK_BYTES + 3)
    const accepted = await submit(session, update, payload, () => 'l2')
    expect(accepted?.start).toMatchObject({ lease: 'l2' })
    expect(same(coordinator.updates[0].bytes, payload)).toBe(true)
    expectOnce('chunk', payload.length)
  })

  test('names the next lease as late as possible', async () => {
    const names = [undefined, 'l2']
    const accepted = await submit(session, update, bytesOf(2 * CHUNK_BYTES), () => names.shift())
    expect(accepted?.start).toMatchObject({ lease: 'l2' })
  })

  test('is finished with its last chunk: no chunk needs to be acknowledged before', async () => {
    coordinator.holdAnswer = (event) =>
      event === 'chunk' ? coordinator.until(() => coordinator.events().includes('finish')) : undefined
    const payload = bytesOf(3 * CHUNK_BYTES)
    expect(await submit(session, update, payload, () => undefined)).toMatchObject({ verdict: 'accepted' })
    expect(same(coordinator.updates[0].bytes, payload)).toBe(true)
  })

  test('[L12] that is sure of being wanted is sent with its announcement', async () => {
    coordinator.holdAnswer = (event) =>
      event === 'update' ? coordinator.until(() => coordinator.events().includes('finish')) : undefined
    const payload = bytesOf(WINDOW_MOST * CHUNK_BYTES + 3)
    expect(await submit(session, update, payload, () => 'l2', true)).toMatchObject({ start: { lease: 'l2' } })
    expect(same(coordinator.updates[0].bytes, payload)).toBe(true)
    expectOnce('chunk', payload.length)
  })

  test('that was sent with its announcement is refused as any other', async () => {
    coordinator.intervene = (event) =>
      event === 'update' ? { ok: false, code: 'non-finite', message: 'no number', next: 'new-lease' } : undefined
    await expect(submit(session, update, bytesOf(3 * CHUNK_BYTES), () => undefined, true)).rejects.toThrow('no number')
    expect(coordinator.events()).toContain('chunk')
    expect(coordinator.updates).toEqual([])
  })

  test('that was sent with its announcement and is to come later comes then, whole', async () => {
    coordinator.intervene = (event, _request, count) =>
      event === 'update' && count === 1
        ? { ok: false, code: 'busy', message: 'too many', next: 'retry', retryAfterMs: 5_000 }
        : undefined
    const payload = bytesOf(6 * CHUNK_BYTES)
    expect(await submit(session, update, payload, () => undefined, true)).toMatchObject({ verdict: 'accepted' })
    expect(clock.slept).toContain(5_000)
    expect(coordinator.updates).toHaveLength(1)
    expect(same(coordinator.updates[0].bytes, payload)).toBe(true)
  })

  test('[L12] that is refused is not sent', async () => {
    coordinator.intervene = (event) =>
      event === 'update' ? { ok: false, code: 'stale', message: 'too old', next: 'new-lease' } : undefined
    await expect(submit(session, update, bytesOf(3 * CHUNK_BYTES), () => undefined)).rejects.toThrow('too old')
    expect(coordinator.events()).not.toContain('chunk')
  })

  test.each([
    ['cut-before', false],
    ['cut-after', false],
    ['cut-before', true],
    ['cut-after', true],
  ] as const)('goes on where it was after the connection was lost (%s, sure: %s)', async (cut, sure) => {
    const chunks = 4 * WINDOW_MOST
    const payload = bytesOf(chunks * CHUNK_BYTES)
    coordinator.intervene = (event, _request, count) => (event === 'chunk' && count % 10 === 0 ? cut : undefined)
    await submit(session, update, payload, () => undefined, sure)
    expect(same(coordinator.updates[0].bytes, payload)).toBe(true)
    const cuts = coordinator.hellos.length - 1
    expect(cuts).toBeGreaterThan(0)
    expect(sum(lengths('chunk'))).toBeLessThanOrEqual(payload.length + cuts * WINDOW_MOST * CHUNK_BYTES)
  })

  test.each([
    ['update', false],
    ['finish', false],
    ['update', true],
    ['finish', true],
  ] as const)('whose acknowledgement is lost (of %s, sure: %s) is announced again, and counts', async (event, sure) => {
    coordinator.intervene = (happened, _request, count) => (happened === event && count === 1 ? 'cut-after' : undefined)
    const payload = bytesOf(event === 'update' && !sure ? 100 : 2 * CHUNK_BYTES)
    const accepted = await submit(session, update, payload, () => undefined, sure)
    // What was announced only is not taken yet.
    if (event === 'update' && sure) expect(accepted).toMatchObject({ verdict: 'accepted' })
    else expect(accepted).toBeNull()
    expect(coordinator.updates).toHaveLength(1)
    expect(coordinator.hellos).toHaveLength(2)
  })

  test('that a full disk puts off is sent again after the time named', async () => {
    coordinator.intervene = (event, _request, count) =>
      event === 'finish' && count <= 2
        ? { ok: false, code: 'storage-full', message: 'the disk is full', next: 'retry', retryAfterMs: 5_000 }
        : undefined
    await submit(session, update, bytesOf(2 * CHUNK_BYTES), () => undefined)
    expect(clock.slept.filter((ms) => ms === 5_000)).toHaveLength(2)
    // The bytes are there already.
    expect(offsets('chunk')).toHaveLength(2)
  })
})

describe('a session', () => {
  test('comes back as the same volunteer, and takes no rest but the back-off', async () => {
    await session.ask('giveBack', { lease: 'x' })
    for (let i = 0; i < 3; i++) {
      coordinator.cutAll()
      await session.ask('giveBack', { lease: 'x' })
    }
    const [first, ...later] = coordinator.hellos
    expect(first.token).toBeUndefined()
    expect(later.map(({ token, instance }) => ({ token, instance }))).toEqual(
      Array(3).fill({ token: 'token-1', instance: first.instance }),
    )
    // Lost at once, over and over (this clock stands still in between): ever more seldom.
    expect(clock.slept.filter((ms) => ms > 0)).toEqual([500, 1000, 2000])
  })

  test('whose coordinator is away tries ever more seldom until it is back', async () => {
    const { port } = coordinator
    await session.ask('giveBack', { lease: 'x' })
    await coordinator.close()
    while (clock.slept.length < 9) await clock.breathe()
    coordinator = await WireCoordinator.listen(port)
    await session.ask('giveBack', { lease: 'x' })
    expect(coordinator.hellos[0].token).toBe('token-1')
    expect(clock.slept.filter((ms) => ms > 0).slice(0, 8)).toEqual([500, 1000, 2000, 4000, 8000, 16000, 30000, 30000])
  })

  test('with an identity that this coordinator does not know comes as a newcomer', async () => {
    coordinator.intervene = (event, request: { token?: string }) =>
      event === 'hello' && request.token !== undefined
        ? { ok: false, code: 'bad-token', message: 'not ours', next: 'retry', retryAfterMs: 0 }
        : undefined
    await session.ask('giveBack', { lease: 'x' })
    coordinator.cutAll()
    await session.ask('giveBack', { lease: 'x' })
    expect(coordinator.hellos.map(({ token }) => token)).toEqual([undefined, undefined])
  })

  test('that is told to stop fails everything that is asked from then on', async () => {
    await session.ask('giveBack', { lease: 'x' })
    coordinator.emit('refused', { ok: false, code: 'junk-frame', message: 'no more of this', next: 'stop' })
    await expect(
      (async () => {
        for (;;) await session.ask('giveBack', { lease: 'x' })
      })(),
    ).rejects.toThrow('no more of this')
    await expect(session.ask('lease', {})).rejects.toThrow('no more of this')
  })
})
