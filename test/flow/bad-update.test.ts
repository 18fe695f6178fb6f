/** Bad leases, versions and updates at a real coordinator: refused exactly, and nobody else notices (bystander.ts). */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { codecs, encodeVector } from '../../shared/codec.ts'
import { CODECS } from '../../shared/codec-names.ts'
import { CHUNK_BYTES, type Refusal } from '../../shared/protocol.ts'
import { Bystander, expectRefusal, VALID } from '../support/bystander.ts'
import { SMALL, SMALL_CHUNKED, startCoordinator } from '../support/coordinator.ts'
import { expectOk, SyntheticVolunteer } from '../support/synthetic-volunteer.ts'

let bystander: Bystander
beforeAll(async () => {
  bystander = await Bystander.start({
    chunked: SMALL_CHUNKED,
    several: { strategy: { name: 'downpour', batchSize: 10, pushEvery: 4 } },
    impatient: { strategy: { name: 'downpour', batchSize: 10, pushEvery: 1, maxStaleness: 2 } },
    ...Object.fromEntries(CODECS.map((codec) => [codec, { codec: { up: codec } }])),
  })
})
afterAll(() => bystander?.close())

describe('leases', () => {
  test('a lease that nobody has is refused for every use [T1]', async () => {
    const bad = await bystander.newcomer()
    await bystander.harmless(async () => {
      expectRefusal(await bad.ask('start', VALID.start), 'lease-unknown', 'nobody.knows.1')
      expectRefusal(await bad.ask('update', VALID.update), 'lease-unknown', 'nobody.knows.1')
      expectRefusal(await bad.ask('giveBack', VALID.giveBack), 'lease-unknown', 'nobody.knows.1')
      expectRefusal(await bad.ask('chunk', VALID.chunk), 'transfer-unknown', 'announce')
      expectRefusal(await bad.ask('finish', VALID.finish), 'transfer-unknown', 'announce')
      expectRefusal(await bad.ask('update', { ...VALID.update, lease: `${bystander.runs.plain}.x.1` }), 'lease-unknown')
    })
  })

  test("another volunteer's lease cannot be started, settled or given back; its owner settles it [L3] [T1]", async () => {
    const thief = await bystander.newcomer('chunked')
    const owner = await SyntheticVolunteer.join(bystander.coordinator.url, { run: bystander.runs.chunked })
    const { lease, start } = await owner.begin()
    await thief.model(lease)
    await bystander.harmless(async () => {
      expectRefusal(await thief.ask('start', { lease: lease.id }), 'lease-foreign', lease.id)
      expectRefusal(await thief.send(lease, start), 'lease-foreign', lease.id)
      expectRefusal(await thief.ask('giveBack', { lease: lease.id }), 'lease-foreign', lease.id)
    })
    expectOk('update', await owner.ask('update', owner.update(lease, start)))
    await bystander.harmless(async () => {
      const bytes = new Uint8Array(CHUNK_BYTES)
      expectRefusal(await thief.ask('chunk', { lease: lease.id, offset: 0, bytes }), 'transfer-unknown')
      expectRefusal(await thief.ask('finish', { lease: lease.id }), 'transfer-unknown')
    })
    expectOk('update', await owner.send(lease, start))
    owner.close()
  })

  test('a lease of a run that the volunteer is not on is refused [T1]', async () => {
    const other = await SyntheticVolunteer.join(bystander.coordinator.url, { run: bystander.runs.int8 })
    const { lease, start } = await other.begin()
    const bad = await bystander.newcomer('f16')
    await bystander.harmless(async () => {
      expectRefusal(await bad.ask('start', { lease: lease.id }), 'lease-foreign')
      expectRefusal(await bad.ask('update', { ...VALID.update, lease: lease.id }), 'lease-foreign')
      expectRefusal(await bad.ask('giveBack', { lease: lease.id }), 'lease-foreign')
    })
    expectOk('update', await other.send(lease, start))
    other.close()
  })

  test('an update of a lease that was not started is refused, and accepted once it is [T1]', async () => {
    const bad = await bystander.newcomer('f32')
    const lease = await bad.lease()
    await bad.model(lease)
    const early = { lease: lease.id, version: 0, localRate: 0, continues: null, deadlineMs: 0 }
    expectRefusal(await bystander.harmless(() => bad.send(lease, early)), 'lease-not-started', lease.id)
    expectOk('update', await bad.send(lease, await bad.start(lease)))
  })

  test('a lease that was given back is over [L3] [T1]', async () => {
    const bad = await bystander.newcomer()
    const { lease, start } = await bad.begin()
    expectOk('giveBack', await bad.ask('giveBack', { lease: lease.id }))
    await bystander.harmless(async () => {
      expectRefusal(await bad.send(lease, start), 'lease-settled', 'given-back')
      expectRefusal(await bad.ask('giveBack', { lease: lease.id }), 'lease-settled', 'given-back')
      expectRefusal(await bad.ask('start', { lease: lease.id }), 'lease-settled', 'given-back')
    })
  })

  test('an update that is sent twice at once and again afterwards counts once [L3] [T1]', async () => {
    const bad = await bystander.newcomer('f32')
    const { lease, start } = await bad.begin()
    const before = bystander.coordinator.runs.get(bystander.runs.f32)!.detail(0)
    const replies = await Promise.all([1, 2, 3].map(() => bad.send(lease, start)))
    expect(replies.filter(({ ok }) => ok).length).toBe(1)
    for (const reply of replies.filter(({ ok }) => !ok)) expectRefusal(reply, 'lease-settled', lease.id)
    await bystander.harmless(async () => {
      expectRefusal(await bad.send(lease, start), 'lease-settled', 'settles at most once')
      expectRefusal(await bad.ask('giveBack', { lease: lease.id }), 'lease-settled')
    })
    const after = bystander.coordinator.runs.get(bystander.runs.f32)!.detail(0)
    expect([after.updatesAccepted - before.updatesAccepted, after.examples - before.examples]).toEqual([1, 10])
  })

  test('who sends update upon update without waiting for answers is told to wait [G3]', async () => {
    const bad = await bystander.newcomer('f32')
    const { lease, start } = await bad.begin()
    const replies = await bystander.harmless(() =>
      Promise.all(Array.from({ length: 500 }, () => bad.send({ ...lease, id: `${lease.id}9` }, start))),
    )
    const codes = replies.map((reply) => (reply as Refusal).code)
    expect(new Set(codes)).toEqual(new Set(['lease-unknown', 'rate-limited']))
    // A turn takes some, and then as many may wait again.
    expect(codes.filter((code) => code === 'rate-limited').length).toBeGreaterThan(100)
  })

  test('a volunteer gets two leases at a time; who asks for a third is told the second again, or that it is busy [L6]', async () => {
    const bad = await bystander.newcomer()
    await bystander.harmless(async () => {
      const [first, second, third] = [await bad.lease(), await bad.lease(), await bad.lease()]
      expect(second.id).not.toBe(first.id)
      expect(third).toEqual(second)
      await bad.start(first)
      await bad.start(second)
      expectRefusal(await bad.ask('lease', {}), 'busy', 'at most 2 leases')
    })
  })

  test('who comes back on a new connection is not granted what its old one asked for [L6] [G4]', async () => {
    const coordinator = await startCoordinator()
    const { run } = await coordinator.createRun(SMALL)
    await coordinator.api('POST', `/api/runs/${run}/pause`)
    const before = await SyntheticVolunteer.join(coordinator.url, { run })
    const { token, volunteer } = before.welcome
    // Waits for work until it is there; nobody will hear the answer.
    before.socket.emit('lease', {}, () => {})
    await before.ask('giveBack', VALID.giveBack)
    const after = await SyntheticVolunteer.join(coordinator.url, { run, token, instance: volunteer.split('-')[1] })
    await coordinator.api('POST', `/api/runs/${run}/resume`)
    const detail = coordinator.runs.get(run)!.detail(0)
    expect(detail.volunteers).toMatchObject([{ volunteer, connected: true, leases: 0 }])
    await after.work(1)
    after.close()
    await coordinator.close()
  })

  test('an expired lease is refused, and its examples were granted anew [E1] [L3] [T1]', async () => {
    let skipMs = 0
    const now = () => Date.now() + skipMs
    const other = await startCoordinator({ now })
    // Ten examples an epoch and one epoch: what the slow one holds is all there is.
    const dataset = { name: 'mnist', train: 10, test: 10 }
    const { run } = await other.createRun({ ...SMALL, dataset, stop: { epochs: 1 } })
    const slow = await SyntheticVolunteer.join(other.url, { run })
    const quick = await SyntheticVolunteer.join(other.url, { run })
    const { lease, start } = await slow.begin()
    const waiting = quick.lease()
    skipMs = 3_600_000
    const again = await waiting
    expect(again.segments).toEqual(lease.segments)
    const before = other.bits(run)
    expectRefusal(await slow.send(lease, start), 'lease-expired', lease.id)
    expect(other.bits(run).equals(before)).toBe(true)
    await quick.model(again)
    expectOk('update', await quick.send(again, await quick.start(again)))
    expect(other.runs.get(run)!.detail(now())).toMatchObject({ examples: 10, epoch: 1, updatesAccepted: 1 })
    slow.close()
    quick.close()
    await other.close()
  })
})

describe('versions', () => {
  test('a version that does not exist, another one and one that is gone are told apart [T1] [V1]', async () => {
    const bad = await bystander.newcomer('several')
    const second = await SyntheticVolunteer.join(bystander.coordinator.url, { run: bystander.runs.several })
    const [a, b] = [await bad.begin(), await second.begin()]
    const { version } = a.start
    // Nobody is bound to the version between these two, so it is not kept.
    expectOk('update', await bad.send(a.lease, a.start))
    expectOk('update', await second.send(b.lease, b.start))
    const { lease, start } = await bad.begin()
    const update = bad.update(lease, start)
    const payload = bad.payload(lease, start)
    const blob = (version: number) => ({
      blob: { run: bystander.runs.several, version },
      offset: 0,
      length: CHUNK_BYTES,
    })
    await bystander.harmless(async () => {
      expectRefusal(
        await bad.ask('update', { ...update, payload, version: 999 }),
        'version-unknown',
        '999',
        `newest is ${version + 2}`,
      )
      expectRefusal(
        await bad.ask('update', { ...update, payload, version: version + 1 }),
        'version-mismatch',
        `version ${version + 2}, got ${version + 1}`,
      )
      expectRefusal(await bad.ask('download', blob(999)), 'version-unknown', '999', `newest is ${version + 2}`)
      expectRefusal(
        await bad.ask('download', blob(version + 1)),
        'version-gone',
        `version ${version + 1} is no longer kept`,
      )
    })
    expectOk('update', await bad.send(lease, start))
    second.close()
  })

  test('the bytes of a version are the same as long as somebody holds a lease at it, and then it is gone [V1] [V4]', async () => {
    const bad = await bystander.newcomer('several')
    const holder = await SyntheticVolunteer.join(bystander.coordinator.url, { run: bystander.runs.several })
    const { lease, start } = await holder.begin()
    const blob = { run: bystander.runs.several, version: start.version }
    const first = await bad.download(blob)
    expect(first.equals(bystander.coordinator.bits(bystander.runs.several))).toBe(true)
    await bad.work(4)
    expect((await bad.download(blob)).equals(first)).toBe(true)
    expect(first.equals(bystander.coordinator.bits(bystander.runs.several))).toBe(false)
    expectOk('update', await holder.send(lease, start))
    expectRefusal(
      await bad.ask('download', { blob, offset: 0, length: CHUNK_BYTES }),
      'version-gone',
      `version ${start.version}`,
    )
    holder.close()
  })

  test('a stale update is refused before it is sent, and its lease is free again [E1] [T1]', async () => {
    const bad = await bystander.newcomer('impatient')
    const quick = await SyntheticVolunteer.join(bystander.coordinator.url, { run: bystander.runs.impatient })
    const { lease, start } = await bad.begin()
    await quick.work(3)
    expectRefusal(
      await bystander.harmless(() => bad.ask('update', bad.update(lease, start))),
      'stale',
      'computed 3 versions ago; at most 2',
    )
    expect((await quick.lease()).segments).toEqual(lease.segments)
    quick.close()
  })

  test('an update that is just not too stale is taken', async () => {
    const bad = await bystander.newcomer('impatient')
    const quick = await SyntheticVolunteer.join(bystander.coordinator.url, { run: bystander.runs.impatient })
    const { lease, start } = await bad.begin()
    await quick.work(2)
    expect(await bad.send(lease, start)).toMatchObject({ ok: true, verdict: 'accepted', staleness: 2 })
    quick.close()
  })
})

describe('what an update says and holds', () => {
  const counts: [string, object, RegExp][] = [
    ['more examples than the lease has', { examples: 1_000_000 }, /got 1000000/],
    ['fewer examples than its minibatches hold', { examples: 39 }, /hold 40.*got 39/],
    ['no minibatch', { minibatches: 0, examples: 0 }, /0 minibatches/],
    ['more minibatches than the lease has', { minibatches: 5 }, /5 minibatches/],
    ['more hits than examples', { correct: 41 }, /41 of 40 cannot be right/],
  ]
  for (const [what, fields, says] of counts) {
    test(`an update of ${what} is refused [E1] [T1]`, async () => {
      const bad = await bystander.newcomer('several')
      const { lease, start } = await bad.begin()
      const payload = bad.payload(lease, start)
      const reply = await bystander.harmless(() =>
        bad.ask('update', { ...bad.update(lease, start), payload, ...fields }),
      )
      expectRefusal(reply, 'impossible-count', says)
      expectOk('update', await bad.send(lease, start))
    })
  }

  for (const lossSum of [1e300, -1e300, -1e-3]) {
    test(`an update whose loss is ${lossSum} is refused [T1] [T2]`, async () => {
      const bad = await bystander.newcomer('several')
      const { lease, start } = await bad.begin()
      const update = { ...bad.update(lease, start), payload: bad.payload(lease, start), lossSum }
      expectRefusal(await bystander.harmless(() => bad.ask('update', update)), 'impossible-count', 'loss')
      expectOk('update', await bad.send(lease, start))
    })
  }

  test('an update whose loss is NaN, which JSON writes as null, is refused, and the volunteer may go on [T1] [T2]', async () => {
    const bad = await bystander.newcomer('several')
    const { lease, start } = await bad.begin()
    const update = { ...bad.update(lease, start), payload: bad.payload(lease, start), lossSum: Number.NaN }
    const reply = await bystander.harmless(() => bad.ask('update', update))
    expectRefusal(reply, 'non-finite', 'diverged')
    expect(reply).toMatchObject({ next: 'new-lease' })
  })

  for (const codec of CODECS) {
    describe(`in codec ${codec}`, () => {
      const send = async (payload: Uint8Array, size = payload.length) => {
        const bad = await bystander.newcomer(codec)
        const { lease, start } = await bad.begin()
        return bystander.harmless(() => bad.ask('update', { ...bad.update(lease, start), payload, size }))
      }
      const vector = (value: number, rest = 0.001) => {
        const floats = new Float32Array(7850).fill(rest)
        floats[4321] = value
        return encodeVector(codecs[codec], floats)
      }
      const whole = codecs[codec].encodedSize(7850)

      test('an update of the wrong length is refused [T1]', async () => {
        for (const length of [whole - 1, whole + 1, 1]) {
          expectRefusal(await send(new Uint8Array(length)), 'wrong-length', `${whole} bytes, got ${length}`)
        }
      })
      test('an update that says another length than it has is refused [T1]', async () => {
        expectRefusal(
          await send(new Uint8Array(whole - 4), whole),
          'wrong-length',
          `says ${whole} bytes and brings ${whole - 4}`,
        )
      })
      test('an update of no bytes is refused [T1]', async () => {
        expectRefusal(await send(new Uint8Array(0)), 'wrong-length', `${whole} bytes, got 0`)
      })
      for (const value of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
        test(`an update that holds ${value} is refused [T1]`, async () => {
          expectRefusal(await send(vector(value)), 'non-finite', 'NaN or an infinity')
        })
      }
      test('an update of a huge norm is refused [T1]', async () => {
        expectRefusal(await send(vector(60_000, 60_000)), 'norm-too-large', /norm is .* a minibatch; at most/)
      })
    })
  }

  test('a lease whose update was not finite is over, and its examples are free again [E1] [L3]', async () => {
    const bad = await bystander.newcomer('f32')
    const { lease, start } = await bad.begin()
    const payload = encodeVector(codecs.f32, new Float32Array(7850).fill(Number.NaN))
    expectRefusal(await bystander.harmless(() => bad.send(lease, start, payload)), 'non-finite')
    expectRefusal(await bystander.harmless(() => bad.send(lease, start)), 'lease-settled')
    expect((await bad.lease()).segments).toEqual(lease.segments)
  })
})
