/** Bad uploads and downloads at a real coordinator: refused exactly, and nobody else notices (bystander.ts). */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { CHUNK_BYTES, CHUNK_MOST_BYTES } from '../../shared/protocol.ts'
import { Bystander, expectRefusal, VALID } from '../support/bystander.ts'
import { SMALL_CHUNKED, startCoordinator } from '../support/coordinator.ts'
import { expectOk, SyntheticVolunteer } from '../support/synthetic-volunteer.ts'

let bystander: Bystander
beforeAll(async () => {
  // `alike` is nobody's: an upload that came to the wrong run would fit it.
  bystander = await Bystander.start({ chunked: SMALL_CHUNKED, alike: SMALL_CHUNKED })
})
afterAll(() => bystander?.close())

describe('transfers', () => {
  test('an update of more than a chunk that is not announced is refused [T1]', async () => {
    const bad = await bystander.newcomer('chunked')
    const { lease, start } = await bad.begin()
    const payload = bad.payload(lease, start)
    const reply = await bystander.harmless(() => bad.ask('update', { ...bad.update(lease, start), payload }))
    expectRefusal(reply, 'too-large', `more than ${CHUNK_BYTES} bytes is announced first, got ${payload.length}`)
  })

  test('every way to send chunks wrongly is refused, and the upload goes on where it was [T1]', async () => {
    const bad = await bystander.newcomer('chunked')
    const { lease, start } = await bad.begin()
    const payload = bad.payload(lease, start)
    const { size } = bad.update(lease, start)
    const chunk = (offset: number, bytes: Uint8Array) => bad.ask('chunk', { lease: lease.id, offset, bytes })
    await bystander.harmless(async () => {
      expectRefusal(await chunk(0, payload.subarray(0, CHUNK_BYTES)), 'transfer-unknown', 'announce the update first')
      expect(await bad.ask('update', bad.update(lease, start))).toMatchObject({ verdict: 'send', offset: 0 })
      expectRefusal(
        await chunk(0, new Uint8Array(CHUNK_MOST_BYTES + 1)),
        'too-large',
        `at most ${CHUNK_MOST_BYTES} bytes, got ${CHUNK_MOST_BYTES + 1}`,
      )
      expectRefusal(
        await chunk(CHUNK_BYTES, new Uint8Array(10)),
        'transfer-out-of-order',
        `expected bytes from 0, got from ${CHUNK_BYTES}`,
      )
      expectRefusal(
        await bad.ask('finish', { lease: lease.id }),
        'transfer-out-of-order',
        `expected ${size} bytes before finish, have 0`,
      )
      expect(await chunk(0, payload.subarray(0, CHUNK_BYTES))).toEqual({ ok: true, received: CHUNK_BYTES })
      expectRefusal(
        await chunk(0, payload.subarray(0, CHUNK_BYTES)),
        'transfer-out-of-order',
        `expected bytes from ${CHUNK_BYTES}, got from 0`,
      )
      expectRefusal(await chunk(CHUNK_BYTES, new Uint8Array(CHUNK_BYTES)), 'too-large', `expected ${size} bytes in all`)
      expectRefusal(await bad.ask('finish', { lease: lease.id }), 'transfer-out-of-order', `have ${CHUNK_BYTES}`)
    })
    expect(await bad.ask('update', bad.update(lease, start))).toMatchObject({ verdict: 'send', offset: CHUNK_BYTES })
    expectOk('chunk', await chunk(CHUNK_BYTES, payload.subarray(CHUNK_BYTES)))
    expect(await bad.ask('finish', { lease: lease.id })).toMatchObject({ ok: true, verdict: 'accepted' })
  })

  test('chunks for a lease that has ended are refused at the next one, and the upload is gone [T1]', async () => {
    const bad = await bystander.newcomer('chunked')
    const { lease, start } = await bad.begin()
    const bytes = bad.payload(lease, start).subarray(0, CHUNK_BYTES)
    expectOk('update', await bad.ask('update', bad.update(lease, start)))
    expectOk('giveBack', await bad.ask('giveBack', { lease: lease.id }))
    await bystander.harmless(async () => {
      const chunk = () => bad.ask('chunk', { lease: lease.id, offset: 0, bytes })
      expectRefusal(await chunk(), 'lease-settled', 'is given-back')
      expectRefusal(await chunk(), 'transfer-unknown', 'announce the update first')
    })
  })

  test("an announced size that is not the run's is refused [T1]", async () => {
    const bad = await bystander.newcomer('chunked')
    const { lease, start } = await bad.begin()
    const update = bad.update(lease, start)
    const reply = await bystander.harmless(() => bad.ask('update', { ...update, size: 1024 ** 3 }))
    expectRefusal(reply, 'wrong-length', `${update.size} bytes, got ${1024 ** 3}`)
  })

  test('an upload that was cut off goes on at its last acknowledged chunk', async () => {
    const bad = await bystander.newcomer('chunked')
    const { lease, start } = await bad.begin()
    const payload = bad.payload(lease, start)
    expectOk('update', await bad.ask('update', bad.update(lease, start)))
    expectOk('chunk', await bad.ask('chunk', { lease: lease.id, offset: 0, bytes: payload.subarray(0, CHUNK_BYTES) }))
    bad.close()
    const { token, volunteer } = bad.welcome
    const instance = volunteer.split('-')[1]
    const back = await SyntheticVolunteer.join(bystander.coordinator.url, {
      run: bystander.runs.chunked,
      token,
      instance,
    })
    expect(back.welcome.volunteer).toBe(volunteer)
    await back.model(lease)
    expect(await back.ask('update', back.update(lease, start))).toMatchObject({ verdict: 'send', offset: CHUNK_BYTES })
    expectOk('update', await back.send(lease, start))
    back.close()
  })

  test('an upload that is finished twice at once counts once [L3]', async () => {
    const bad = await bystander.newcomer('chunked')
    const { lease, start } = await bad.begin()
    const payload = bad.payload(lease, start)
    expectOk('update', await bad.ask('update', bad.update(lease, start)))
    for (let offset = 0; offset < payload.length; offset += CHUNK_BYTES) {
      const bytes = payload.subarray(offset, offset + CHUNK_BYTES)
      expectOk('chunk', await bad.ask('chunk', { lease: lease.id, offset, bytes }))
    }
    const replies = await Promise.all([1, 2].map(() => bad.ask('finish', { lease: lease.id })))
    expect(replies.map(({ ok }) => ok).sort()).toEqual([false, true])
    expectRefusal(
      replies.find(({ ok }) => !ok),
      'lease-settled',
    )
    expectRefusal(await bystander.harmless(() => bad.ask('finish', { lease: lease.id })), 'transfer-unknown')
  })

  test('who announces an update again and again, or dribbles it in, cannot hold its examples for ever [E1]', async () => {
    let skipMs = 0
    const other = await startCoordinator({ now: () => Date.now() + skipMs })
    const { run } = await other.createRun(SMALL_CHUNKED)
    const hoarder = await SyntheticVolunteer.join(other.url, { run })
    const { lease, start } = await hoarder.begin()
    const announce = () => hoarder.ask('update', hoarder.update(lease, start))
    expectOk('update', await announce())
    let minutes = 0
    for (; minutes < 60; minutes++) {
      skipMs += 59_000
      other.runs.expire(Date.now() + skipMs)
      const reply = await announce()
      if (!reply.ok) {
        expectRefusal(reply, 'lease-expired')
        break
      }
      for (const bytes of [new Uint8Array(0), new Uint8Array(1)]) {
        const dribble = await hoarder.ask('chunk', { lease: lease.id, offset: 0, bytes })
        expectRefusal(dribble, 'malformed', /expected a chunk of at least 65536 bytes, got \d/)
      }
    }
    expect(minutes, 'minutes that the lease was held without its update arriving').toBeLessThan(10)
    hoarder.close()
    await other.close()
  })

  test('blobs and runs that do not exist, and bytes past the end, are refused', async () => {
    const bad = await bystander.newcomer()
    const lease = await bad.lease()
    await bystander.harmless(async () => {
      expectRefusal(await bad.ask('download', VALID.download), 'blob-unknown', '0'.repeat(64))
      expectRefusal(
        await bad.ask('download', { blob: { run: 'atlantis', version: 0 }, offset: 0, length: 1 }),
        'run-unknown',
        'atlantis',
      )
      const past = await bad.ask('download', { blob: { hash: lease.model }, offset: 10 ** 9, length: 1 })
      expectRefusal(past, 'malformed', /the blob has \d+ bytes, asked from 1000000000/)
    })
  })

  test('a chunk may have 256 KiB, and what is asked for begin and end anywhere', async () => {
    const other = await startCoordinator()
    const { run } = await other.createRun({ ...SMALL_CHUNKED, model: { template: 'mlp', hidden: [128] } })
    const volunteer = await SyntheticVolunteer.join(other.url, { run })
    const { lease, start } = await volunteer.begin()
    const payload = volunteer.payload(lease, start)
    expectOk('update', await volunteer.ask('update', volunteer.update(lease, start)))
    for (const offset of [0, CHUNK_MOST_BYTES]) {
      const bytes = payload.subarray(offset, offset + CHUNK_MOST_BYTES)
      const taken = await volunteer.ask('chunk', { lease: lease.id, offset, bytes })
      expect(taken).toEqual({ ok: true, received: offset + bytes.length })
    }
    expect(await volunteer.ask('finish', { lease: lease.id })).toMatchObject({ ok: true, verdict: 'accepted' })
    const blob = { hash: lease.segments[0].shard }
    const whole = await volunteer.download(blob)
    for (const [offset, length] of [
      [0, CHUNK_MOST_BYTES],
      [12_345, 6_789],
      [whole.length - 5, CHUNK_BYTES],
    ]) {
      const { bytes, size } = expectOk('download', await volunteer.ask('download', { blob, offset, length }))
      expect(size).toBe(whole.length)
      expect(Buffer.compare(bytes, whole.subarray(offset, offset + length))).toBe(0)
    }
    volunteer.close()
    await other.close()
  })

  test('who asks for more than it can read is told to read first [G1]', async () => {
    const bad = await bystander.newcomer()
    const lease = await bad.lease()
    const blob = { hash: lease.segments[0].shard }
    const replies = await bystander.harmless(() =>
      Promise.all(
        Array.from({ length: 1_000 }, () => bad.ask('download', { blob, offset: 0, length: CHUNK_MOST_BYTES })),
      ),
    )
    const refused = replies.filter(({ ok }) => !ok)
    expect(replies.length - refused.length).toBeGreaterThan(0)
    expect(refused.length).toBeGreaterThan(0)
    for (const reply of refused) expectRefusal(reply, 'rate-limited', 'read what was sent')
  })
})
