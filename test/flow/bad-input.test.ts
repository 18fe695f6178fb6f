/**
 * Every kind of bad input there is, at a real coordinator. Each time: the sender gets the exact code and a message that
 * says what was expected and what came; the process lives; an honest volunteer in the middle of a lease is undisturbed
 * and its update is accepted; the parameters have the same bits before and after.
 */
import { closeSync, ftruncateSync, openSync, readFileSync, statSync, writeFileSync, writeSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { openSqliteJournal } from '../../coordinator/journal/sqlite-journal.ts'
import type { ApiError } from '../../shared/api.ts'
import { codecs, encodeVector } from '../../shared/codec.ts'
import {
  CHUNK_BYTES,
  EVENTS,
  type EventName,
  MAX_FRAME_BYTES,
  REFUSALS,
  type Refusal,
  type RefusalCode,
} from '../../shared/protocol.ts'
import { CODECS } from '../../shared/run-spec.ts'
import { newFolder, SMALL, SMALL_CHUNKED, startCoordinator, type TestCoordinator, until } from '../support/coordinator.ts'
import { startProgram } from '../support/processes.ts'
import { RawSocket } from '../support/raw-socket.ts'
import { ask, connect, expectOk, introduction, SyntheticVolunteer } from '../support/synthetic-volunteer.ts'

let coordinator: TestCoordinator
let honest: SyntheticVolunteer
/** A newcomer of each test's own. */
let bad: SyntheticVolunteer
/** Runs by what they are for. */
const runs: Record<string, string> = {}

beforeAll(async () => {
  coordinator = await startCoordinator()
  const create = async (key: string, spec: object) => {
    runs[key] = (await coordinator.createRun({ ...SMALL, ...spec, name: key })).run
  }
  await create('plain', {})
  await create('chunked', SMALL_CHUNKED)
  await create('several', { strategy: { name: 'downpour', batchSize: 10, pushEvery: 4 } })
  await create('impatient', { strategy: { name: 'downpour', batchSize: 10, pushEvery: 1, maxStaleness: 2 } })
  for (const codec of CODECS) await create(codec, { codec: { up: codec } })
  honest = await SyntheticVolunteer.join(coordinator.url, { run: runs.plain })
})

afterAll(async () => {
  honest?.close()
  bad?.close()
  await coordinator?.close()
})

/** Does something bad while the honest volunteer is in the middle of a lease, and checks that nothing came of it. */
async function harmless<T>(doing: () => Promise<T>): Promise<T> {
  const { lease, start } = await honest.begin()
  const bits = () => coordinator.runs.list().map(({ id }) => coordinator.bits(id))
  const before = bits()
  const result = await doing()
  const after = bits()
  after.forEach((now, i) => {
    expect(now.equals(before[i]), 'the parameters are as they were').toBe(true)
  })
  const verdict = await honest.send(lease, start)
  expect(verdict).toMatchObject({ ok: true, verdict: 'accepted' })
  expect(honest.disconnects).toEqual([])
  expect(honest.refusals).toEqual([])
  return result
}

const newcomer = async (run = runs.plain) => {
  bad?.close()
  bad = await SyntheticVolunteer.join(coordinator.url, { run })
  return bad
}

function expectRefusal(reply: unknown, code: RefusalCode, ...says: (string | RegExp)[]): void {
  expect(reply).toMatchObject({ ok: false, code, next: REFUSALS[code] })
  const { message } = reply as Refusal
  for (const words of says) expect(message).toMatch(words)
  expect(message.length, 'a message for a person').toBeLessThan(500)
}

/** A message of each event that its schema takes. */
const VALID: Record<EventName, object> = {
  hello: introduction(),
  lease: {},
  download: { blob: { hash: '0'.repeat(64) }, offset: 0 },
  start: { lease: 'nobody.knows.1' },
  update: {
    lease: 'nobody.knows.1',
    version: 0,
    minibatches: 1,
    examples: 10,
    lossSum: 1,
    correct: 1,
    computeMs: 1,
    size: 100_000,
  },
  chunk: { lease: 'nobody.knows.1', offset: 0, bytes: new Uint8Array(1) },
  finish: { lease: 'nobody.knows.1' },
  giveBack: { lease: 'nobody.knows.1' },
}

describe('frames that are no messages', () => {
  /** What is sent before and after joining; nothing of it is a packet of ours. */
  const junk: [string, (string | Uint8Array)[]][] = [
    ['an event that is no list', ['42{"lease":{}}']],
    ['an event without a name', ['42[]']],
    ['an event whose name is reserved', ['42["disconnect"]']],
    ['broken JSON', ['42["lease",{']],
    ['a packet type that does not exist', ['49']],
    ['binary data without a header', [new Uint8Array(100)]],
    ['a header that is followed by text instead of its binary data', ['451-["chunk",{"_placeholder":true,"num":0}]', '42["x"]']],
    ['more attachments than anybody needs', ['4599-["chunk"]']],
    ['an attachment that is not there', ['451-["chunk",{"_placeholder":true,"num":7}]', new Uint8Array(1)]],
    ['JSON nested 200,000 deep', [`42["lease",${'['.repeat(200_000)}${']'.repeat(200_000)}]`]],
    ['JSON nested 200,000 deep with binary data', [`451-["lease",${'['.repeat(200_000)}${']'.repeat(200_000)}]`, new Uint8Array(1)]],
  ]
  for (const [what, frames] of junk) {
    test(`${what} is refused with a code, and the connection goes on [G1] [G2] [T1]`, async () => {
      await harmless(async () => {
        const raw = await RawSocket.open(coordinator.url)
        for (const frame of frames) raw.send(frame)
        const told = await raw.text((text) => text.startsWith('42["refused"'))
        const refusal = JSON.parse(told.slice(2))[1]
        expect(['junk-frame', 'malformed']).toContain(refusal.code)
        expectRefusal(refusal, refusal.code)
        expect(await raw.ask('hello', introduction(), 1)).toMatchObject({ ok: true })
        raw.close()
      })
    })
  }

  const deadly: [string, (raw: RawSocket) => void][] = [
    ['an engine.io packet of no type', (raw) => raw.send('x')],
    ['an empty engine.io packet', (raw) => raw.send('')],
    ['an engine.io ping, which only a coordinator sends', (raw) => raw.send('2')],
    ['a WebSocket operation code that does not exist', (raw) => raw.frame(11, Buffer.from('hello'))],
    ['text that is not UTF-8', (raw) => raw.frame(1, Buffer.from([0x34, 0x32, 0xff, 0xfe]))],
    ['bytes that are no WebSocket frame', (raw) => raw.bytes(Buffer.from('GET / HTTP/1.1\r\n\r\n'))],
    ['a packet before joining', (raw) => raw.send('42["lease",{}]')],
  ]
  for (const [what, send] of deadly) {
    test(`${what} ends that connection and no other [G2] [T1]`, async () => {
      await harmless(async () => {
        const raw = await RawSocket.open(coordinator.url, { joined: !what.includes('before joining') })
        send(raw)
        await raw.closed
      })
    })
  }

  test('a frame of more than 1 MiB ends its connection with WebSocket code 1009 [G2]', async () => {
    await harmless(async () => {
      const raw = await RawSocket.open(coordinator.url)
      raw.send(new Uint8Array(MAX_FRAME_BYTES + 1))
      await raw.closed
      expect(raw.closeCode).toBe(1009)
    })
  })

  test('a frame of exactly 1 MiB is read, and refused for what it is [G1]', async () => {
    await harmless(async () => {
      const raw = await RawSocket.open(coordinator.url)
      raw.send(new Uint8Array(MAX_FRAME_BYTES))
      await raw.text((text) => text.includes('"junk-frame"'))
      raw.close()
    })
  })

  test('who sends nothing but junk is cut off after a hundred frames [G2]', async () => {
    await harmless(async () => {
      const raw = await RawSocket.open(coordinator.url)
      for (let i = 0; i < 150; i++) raw.send('42{}')
      await raw.closed
      expect(raw.texts.filter((text) => text.includes('"junk-frame"')).length).toBeLessThanOrEqual(100)
    })
  })

  test('who asks without reading the answers is cut off, and its answers are not kept [G2]', async () => {
    await harmless(async () => {
      const raw = await RawSocket.open(coordinator.url)
      expect(await raw.ask('hello', introduction(), 1)).toMatchObject({ ok: true })
      raw.deafen()
      const question = JSON.stringify(['start', { lease: `nobody.${'x'.repeat(100)}` }])
      const connections = () => coordinator.runs.get(runs.plain)!.roster.connected.length
      const before = connections()
      for (let sent = 0; connections() >= before; sent++) {
        if (sent > 3_000) throw new Error('600,000 questions were answered to somebody who reads no answer')
        for (let i = 0; i < 200; i++) raw.send(`42${i}${question}`)
        await until('the questions are taken', () => raw.unsentBytes < 100_000 || connections() < before)
      }
      raw.close()
    })
  })
})

describe('messages of the wrong shape', () => {
  const wrong: { [E in EventName]: [string, unknown, RegExp][] } = {
    hello: [
      ['null', null, /expected object/],
      ['a protocol version in words', { ...VALID.hello, protocol: 'one' }, /field protocol: .*expected.*received string/],
      ['an instance in capitals', { ...VALID.hello, instance: 'NOT-LIKE-THIS' }, /field instance: expected 8 to 32 of 0-9a-z/],
      ['a backend that does not exist', { ...VALID.hello, backend: 'quantum' }, /field backend: .*expected one of "webgpu"/],
      ['a field too many', { ...VALID.hello, admin: true }, /admin/],
    ],
    lease: [
      ['a text', 'please', /expected object, received string/],
      ['a field too many', { many: 2 }, /many/],
    ],
    download: [
      ['a hash that is none', { blob: { hash: 'zz' }, offset: 0 }, /field blob/],
      ['an offset below zero', { ...VALID.download, offset: -1 }, /field offset: .*>=0/],
      ['an offset between bytes', { ...VALID.download, offset: 0.5 }, /field offset: .*expected int/],
    ],
    start: [
      ['no lease', {}, /field lease: .*expected string, received undefined/],
      ['an empty lease', { lease: '' }, /field lease/],
      ['a lease of 200 characters', { lease: 'x'.repeat(200) }, /field lease: .*120/],
    ],
    update: [
      ['a count below zero', { ...VALID.update, examples: -1 }, /field examples/],
      ['a count of more than is countable', { ...VALID.update, examples: 2 ** 60 }, /field examples/],
      ['a loss in words', { ...VALID.update, lossSum: 'little' }, /field lossSum: .*expected number, received string/],
      ['a time below zero', { ...VALID.update, computeMs: -5 }, /field computeMs/],
      ['a payload in words', { ...VALID.update, payload: 'AAAA' }, /field payload: expected binary data/],
      ['a payload of numbers', { ...VALID.update, payload: [1, 2, 3] }, /field payload: expected binary data/],
    ],
    chunk: [
      ['bytes in words', { ...VALID.chunk, bytes: 'AAAA' }, /field bytes: expected binary data/],
      ['no bytes', { lease: 'x', offset: 0 }, /field bytes/],
    ],
    finish: [['a number for a lease', { lease: 7 }, /field lease: .*expected string, received number/]],
    giveBack: [['a list', [], /expected object, received array/]],
  }
  for (const [event, cases] of Object.entries(wrong) as [EventName, [string, unknown, RegExp][]][]) {
    for (const [what, message, says] of cases) {
      test(`${event} with ${what} is refused, naming the field [G1] [G2] [T1]`, async () => {
        await newcomer()
        const reply = await harmless(() => bad.ask(event, message))
        expectRefusal(reply, 'malformed', `"${event}"`, says)
      })
    }
  }

  test('keys that would change every object change none [T1]', async () => {
    await harmless(async () => {
      const raw = await RawSocket.open(coordinator.url)
      raw.send('427["lease",{"__proto__":{"admin":true}}]')
      expect(JSON.parse((await raw.text((text) => text.startsWith('437['))).slice(3))[0]).toMatchObject({ ok: false })
      raw.send('428["lease",{"constructor":{"prototype":{"admin":true}}}]')
      expect(JSON.parse((await raw.text((text) => text.startsWith('438['))).slice(3))[0]).toMatchObject({ ok: false })
      expect(({} as { admin?: boolean }).admin).toBeUndefined()
      raw.close()
    })
  })

  test('a field name of half a megabyte is not sent back [G2]', async () => {
    await newcomer()
    const reply = await harmless(() => bad.ask('lease', { ['k'.repeat(500_000)]: 1 }))
    expectRefusal(reply, 'malformed', '"lease"')
  })

  for (const event of Object.keys(EVENTS) as EventName[]) {
    test(`${event} that asks for no acknowledgement is refused by a message of its own [G1]`, async () => {
      await newcomer()
      await harmless(async () => {
        bad.socket.emit(event, VALID[event])
        await until('the refusal is here', () => bad.refusals.length === 1)
      })
      expectRefusal(bad.refusals[0], 'malformed', `"${event}" wants an acknowledgement`)
    })
  }

  for (const [what, args] of [
    ['no message at all', []],
    ['two messages', [{}, {}]],
  ] as const) {
    test(`a question with ${what} is answered [G1]`, async () => {
      await newcomer()
      const reply = await harmless(() => bad.socket.timeout(5_000).emitWithAck('lease', ...args))
      expectRefusal(reply, 'malformed', '"lease"')
    })
  }

  for (const event of ['nonsense', 'toString', 'constructor', '__proto__', 'hasOwnProperty', '\u0000junk', 'x'.repeat(10_000)]) {
    test(`"${event.slice(0, 20)}", which is no message, is refused with and without an acknowledgement [G1] [G2]`, async () => {
      await newcomer()
      await harmless(async () => {
        bad.socket.emit(event, {})
        await until('the refusal is here', () => bad.refusals.length === 1)
        expectRefusal(await bad.socket.timeout(5_000).emitWithAck(event, {}), bad.refusals[0].code)
      })
      expect(['malformed', 'junk-frame']).toContain(bad.refusals[0].code)
      expectRefusal(bad.refusals[0], bad.refusals[0].code)
    })
  }
})

describe('who somebody is', () => {
  for (const event of (Object.keys(EVENTS) as EventName[]).filter((event) => event !== 'hello')) {
    test(`${event} without hello is refused [G1]`, async () => {
      const socket = await connect(coordinator.url)
      const reply = await harmless(() => ask(socket, event, VALID[event]))
      expectRefusal(reply, 'hello-first', `say hello before "${event}"`)
      socket.disconnect()
    })
  }

  const strangers: [string, object, RefusalCode, RegExp][] = [
    ['another protocol version', { protocol: 2 }, 'protocol-version', /speaks version 1, got 2/],
    ['a token that is none', { token: 'nonsense' }, 'bad-token', /not of this coordinator/],
    ['a token of nothing', { token: '' }, 'bad-token', /not of this coordinator/],
    ['a token with a forged hash', { token: `abcdef012345.${'0'.repeat(32)}` }, 'bad-token', /not of this coordinator/],
    ['a wrong trust key', { trustKey: 'guessed' }, 'bad-token', /trust key is wrong/],
    ['a run that does not exist', { run: 'atlantis' }, 'run-unknown', /no run atlantis/],
  ]
  for (const [what, fields, code, says] of strangers) {
    test(`hello with ${what} is refused, and a right one may follow [G1]`, async () => {
      const socket = await connect(coordinator.url)
      await harmless(async () => {
        expectRefusal(await ask(socket, 'hello', { ...introduction(), ...fields }), code, says)
        expect(await ask(socket, 'lease', {})).toMatchObject({ code: 'hello-first' })
        expectOk('hello', await ask(socket, 'hello', introduction()))
      })
      socket.disconnect()
    })
  }

  test("somebody else's token with a letter changed is refused", async () => {
    const { token } = honest.welcome
    const forged = token.replace(/^./, (first) => (first === 'a' ? 'b' : 'a'))
    const socket = await connect(coordinator.url)
    expectRefusal(await harmless(() => ask(socket, 'hello', introduction({ token: forged }))), 'bad-token')
    socket.disconnect()
  })

  test('a connection that has said hello cannot become somebody else', async () => {
    await newcomer()
    const reply = await harmless(() => bad.ask('hello', introduction()))
    expectRefusal(reply, 'malformed', /somebody else/)
  })
})

describe('leases', () => {
  test('a lease that nobody has is refused for every use [T1]', async () => {
    await newcomer()
    await harmless(async () => {
      expectRefusal(await bad.ask('start', VALID.start), 'lease-unknown', 'nobody.knows.1')
      expectRefusal(await bad.ask('update', VALID.update), 'lease-unknown', 'nobody.knows.1')
      expectRefusal(await bad.ask('giveBack', VALID.giveBack), 'lease-unknown', 'nobody.knows.1')
      expectRefusal(await bad.ask('chunk', VALID.chunk), 'transfer-unknown', 'announce')
      expectRefusal(await bad.ask('finish', VALID.finish), 'transfer-unknown', 'announce')
      expectRefusal(await bad.ask('update', { ...VALID.update, lease: `${runs.plain}.x.1` }), 'lease-unknown')
    })
  })

  test("another volunteer's lease cannot be started, settled or given back; its owner settles it [L3] [T1]", async () => {
    const thief = await newcomer(runs.chunked)
    const owner = await SyntheticVolunteer.join(coordinator.url, { run: runs.chunked })
    const { lease, start } = await owner.begin()
    await thief.model(lease)
    await harmless(async () => {
      expectRefusal(await thief.ask('start', { lease: lease.id }), 'lease-foreign', lease.id)
      expectRefusal(await thief.send(lease, start), 'lease-foreign', lease.id)
      expectRefusal(await thief.ask('giveBack', { lease: lease.id }), 'lease-foreign', lease.id)
    })
    expectOk('update', await owner.ask('update', owner.update(lease, start)))
    await harmless(async () => {
      const bytes = new Uint8Array(CHUNK_BYTES)
      expectRefusal(await thief.ask('chunk', { lease: lease.id, offset: 0, bytes }), 'transfer-unknown')
      expectRefusal(await thief.ask('finish', { lease: lease.id }), 'transfer-unknown')
    })
    expectOk('update', await owner.send(lease, start))
    owner.close()
  })

  test('a lease of a run that the volunteer is not on is refused [T1]', async () => {
    const other = await SyntheticVolunteer.join(coordinator.url, { run: runs.int8 })
    const { lease, start } = await other.begin()
    await newcomer(runs.f16)
    await harmless(async () => {
      expectRefusal(await bad.ask('start', { lease: lease.id }), 'lease-foreign')
      expectRefusal(await bad.ask('update', { ...VALID.update, lease: lease.id }), 'lease-foreign')
      expectRefusal(await bad.ask('giveBack', { lease: lease.id }), 'lease-foreign')
    })
    expectOk('update', await other.send(lease, start))
    other.close()
  })

  test('an update of a lease that was not started is refused, and accepted once it is [T1]', async () => {
    await newcomer(runs.f32)
    const lease = await bad.lease()
    await bad.model(lease)
    const early = { lease: lease.id, version: 0, localRate: 0, continues: null, deadlineMs: 0 }
    expectRefusal(await harmless(() => bad.send(lease, early)), 'lease-not-started', lease.id)
    expectOk('update', await bad.send(lease, await bad.start(lease)))
  })

  test('a lease that was given back is over [L3] [T1]', async () => {
    await newcomer()
    const { lease, start } = await bad.begin()
    expectOk('giveBack', await bad.ask('giveBack', { lease: lease.id }))
    await harmless(async () => {
      expectRefusal(await bad.send(lease, start), 'lease-settled', 'given-back')
      expectRefusal(await bad.ask('giveBack', { lease: lease.id }), 'lease-settled', 'given-back')
      expectRefusal(await bad.ask('start', { lease: lease.id }), 'lease-settled', 'given-back')
    })
  })

  test('an update that is sent twice at once and again afterwards counts once [L3] [T1]', async () => {
    await newcomer(runs.f32)
    const { lease, start } = await bad.begin()
    const before = coordinator.runs.get(runs.f32)!.detail(0)
    const replies = await Promise.all([1, 2, 3].map(() => bad.send(lease, start)))
    expect(replies.filter(({ ok }) => ok).length).toBe(1)
    for (const reply of replies.filter(({ ok }) => !ok)) expectRefusal(reply, 'lease-settled', lease.id)
    await harmless(async () => {
      expectRefusal(await bad.send(lease, start), 'lease-settled', 'settles at most once')
      expectRefusal(await bad.ask('giveBack', { lease: lease.id }), 'lease-settled')
    })
    const after = coordinator.runs.get(runs.f32)!.detail(0)
    expect([after.updatesAccepted - before.updatesAccepted, after.examples - before.examples]).toEqual([1, 10])
  })

  test('an upload that is finished twice at once counts once [L3]', async () => {
    await newcomer(runs.chunked)
    const { lease, start } = await bad.begin()
    const payload = bad.payload(lease, start)
    expectOk('update', await bad.ask('update', bad.update(lease, start)))
    for (let offset = 0; offset < payload.length; offset += CHUNK_BYTES) {
      const bytes = payload.subarray(offset, offset + CHUNK_BYTES)
      expectOk('chunk', await bad.ask('chunk', { lease: lease.id, offset, bytes }))
    }
    const replies = await Promise.all([1, 2].map(() => bad.ask('finish', { lease: lease.id })))
    expect(replies.map(({ ok }) => ok).sort()).toEqual([false, true])
    expectRefusal(replies.find(({ ok }) => !ok), 'lease-settled')
    expectRefusal(await harmless(() => bad.ask('finish', { lease: lease.id })), 'transfer-unknown')
  })

  test('a volunteer gets two leases at a time and no third', async () => {
    await newcomer()
    await harmless(async () => {
      await bad.lease()
      await bad.lease()
      expectRefusal(await bad.ask('lease', {}), 'busy', 'at most 2 leases')
    })
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
        expectRefusal(dribble, 'malformed', /expected a chunk of 65536 bytes, got \d/)
      }
    }
    expect(minutes, 'minutes that the lease was held without its update arriving').toBeLessThan(10)
    hoarder.close()
    await other.close()
  })
})

describe('versions', () => {
  test('a version that does not exist, another one and one that is gone are told apart [T1] [V1]', async () => {
    await newcomer(runs.several)
    const second = await SyntheticVolunteer.join(coordinator.url, { run: runs.several })
    const [a, b] = [await bad.begin(), await second.begin()]
    const { version } = a.start
    // Nobody is bound to the version between these two, so it is not kept.
    expectOk('update', await bad.send(a.lease, a.start))
    expectOk('update', await second.send(b.lease, b.start))
    const { lease, start } = await bad.begin()
    const update = bad.update(lease, start)
    const payload = bad.payload(lease, start)
    const blob = (version: number) => ({ blob: { run: runs.several, version }, offset: 0 })
    await harmless(async () => {
      expectRefusal(await bad.ask('update', { ...update, payload, version: 999 }), 'version-unknown', '999', `newest is ${version + 2}`)
      expectRefusal(await bad.ask('update', { ...update, payload, version: version + 1 }), 'version-mismatch', `version ${version + 2}, got ${version + 1}`)
      expectRefusal(await bad.ask('download', blob(999)), 'version-unknown', '999', `newest is ${version + 2}`)
      expectRefusal(await bad.ask('download', blob(version + 1)), 'version-gone', `version ${version + 1} is no longer kept`)
    })
    expectOk('update', await bad.send(lease, start))
    second.close()
  })

  test('the bytes of a version are the same however often it is asked for, whatever was folded in since [V1]', async () => {
    await newcomer(runs.several)
    const { lease, start } = await bad.begin()
    const blob = { run: runs.several, version: start.version }
    const first = await bad.download(blob)
    expect(first.equals(coordinator.bits(runs.several))).toBe(true)
    expectOk('update', await bad.send(lease, start))
    await bad.work(3)
    expect((await bad.download(blob)).equals(first)).toBe(true)
    expect(first.equals(coordinator.bits(runs.several))).toBe(false)
  })

  test('a stale update is refused before it is sent, and its lease is free again [E1] [T1]', async () => {
    await newcomer(runs.impatient)
    const quick = await SyntheticVolunteer.join(coordinator.url, { run: runs.impatient })
    const { lease, start } = await bad.begin()
    await quick.work(3)
    expectRefusal(await harmless(() => bad.ask('update', bad.update(lease, start))), 'stale', 'computed 3 versions ago; at most 2')
    expect((await quick.lease()).segments).toEqual(lease.segments)
    quick.close()
  })

  test('an update that is just not too stale is taken', async () => {
    await newcomer(runs.impatient)
    const quick = await SyntheticVolunteer.join(coordinator.url, { run: runs.impatient })
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
      await newcomer(runs.several)
      const { lease, start } = await bad.begin()
      const payload = bad.payload(lease, start)
      const reply = await harmless(() => bad.ask('update', { ...bad.update(lease, start), payload, ...fields }))
      expectRefusal(reply, 'impossible-count', says)
      expectOk('update', await bad.send(lease, start))
    })
  }

  for (const [what, lossSum] of [
    ['below zero', -1],
    ['beyond all reason', 1e300],
  ] as const) {
    test.fails(`an update whose loss is ${what} is refused [T1]`, async () => {
      await newcomer(runs.several)
      const { lease, start } = await bad.begin()
      const payload = bad.payload(lease, start)
      expectRefusal(await bad.ask('update', { ...bad.update(lease, start), payload, lossSum }), 'impossible-count')
    })
  }

  for (const codec of CODECS) {
    describe(`in codec ${codec}`, () => {
      const send = async (payload: Uint8Array, size = payload.length) => {
        await newcomer(runs[codec])
        const { lease, start } = await bad.begin()
        return harmless(() => bad.ask('update', { ...bad.update(lease, start), payload, size }))
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
        expectRefusal(await send(new Uint8Array(whole - 4), whole), 'wrong-length', `says ${whole} bytes and brings ${whole - 4}`)
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
    await newcomer(runs.f32)
    const { lease, start } = await bad.begin()
    const payload = encodeVector(codecs.f32, new Float32Array(7850).fill(Number.NaN))
    expectRefusal(await harmless(() => bad.send(lease, start, payload)), 'non-finite')
    expectRefusal(await harmless(() => bad.send(lease, start)), 'lease-settled')
    expect((await bad.lease()).segments).toEqual(lease.segments)
  })
})

describe('transfers', () => {
  test('an update of more than a chunk that is not announced is refused [T1]', async () => {
    await newcomer(runs.chunked)
    const { lease, start } = await bad.begin()
    const payload = bad.payload(lease, start)
    const reply = await harmless(() => bad.ask('update', { ...bad.update(lease, start), payload }))
    expectRefusal(reply, 'too-large', `more than ${CHUNK_BYTES} bytes is announced first, got ${payload.length}`)
  })

  test('every way to send chunks wrongly is refused, and the upload goes on where it was [T1]', async () => {
    await newcomer(runs.chunked)
    const { lease, start } = await bad.begin()
    const payload = bad.payload(lease, start)
    const { size } = bad.update(lease, start)
    const chunk = (offset: number, bytes: Uint8Array) => bad.ask('chunk', { lease: lease.id, offset, bytes })
    await harmless(async () => {
      expectRefusal(await chunk(0, payload.subarray(0, CHUNK_BYTES)), 'transfer-unknown', 'announce the update first')
      expect(await bad.ask('update', bad.update(lease, start))).toMatchObject({ verdict: 'send', offset: 0 })
      expectRefusal(await chunk(0, new Uint8Array(CHUNK_BYTES + 1)), 'too-large', `at most ${CHUNK_BYTES} bytes, got ${CHUNK_BYTES + 1}`)
      expectRefusal(await chunk(CHUNK_BYTES, new Uint8Array(10)), 'transfer-out-of-order', `expected bytes from 0, got from ${CHUNK_BYTES}`)
      expectRefusal(await bad.ask('finish', { lease: lease.id }), 'transfer-out-of-order', `expected ${size} bytes before finish, have 0`)
      expect(await chunk(0, payload.subarray(0, CHUNK_BYTES))).toEqual({ ok: true, received: CHUNK_BYTES })
      expectRefusal(await chunk(0, payload.subarray(0, CHUNK_BYTES)), 'transfer-out-of-order', `expected bytes from ${CHUNK_BYTES}, got from 0`)
      expectRefusal(await chunk(CHUNK_BYTES, new Uint8Array(CHUNK_BYTES)), 'too-large', `expected ${size} bytes in all`)
      expectRefusal(await bad.ask('finish', { lease: lease.id }), 'transfer-out-of-order', `have ${CHUNK_BYTES}`)
    })
    expect(await bad.ask('update', bad.update(lease, start))).toMatchObject({ verdict: 'send', offset: CHUNK_BYTES })
    expectOk('chunk', await chunk(CHUNK_BYTES, payload.subarray(CHUNK_BYTES)))
    expect(await bad.ask('finish', { lease: lease.id })).toMatchObject({ ok: true, verdict: 'accepted' })
  })

  test('an announced size that is not the run\'s is refused [T1]', async () => {
    await newcomer(runs.chunked)
    const { lease, start } = await bad.begin()
    const update = bad.update(lease, start)
    const reply = await harmless(() => bad.ask('update', { ...update, size: 1024 ** 3 }))
    expectRefusal(reply, 'wrong-length', `${update.size} bytes, got ${1024 ** 3}`)
  })

  test('an upload that was cut off goes on at its last acknowledged chunk', async () => {
    await newcomer(runs.chunked)
    const { lease, start } = await bad.begin()
    const payload = bad.payload(lease, start)
    expectOk('update', await bad.ask('update', bad.update(lease, start)))
    expectOk('chunk', await bad.ask('chunk', { lease: lease.id, offset: 0, bytes: payload.subarray(0, CHUNK_BYTES) }))
    bad.close()
    const { token, volunteer } = bad.welcome
    const instance = volunteer.split('-')[1]
    const back = await SyntheticVolunteer.join(coordinator.url, { run: runs.chunked, token, instance })
    expect(back.welcome.volunteer).toBe(volunteer)
    await back.model(lease)
    expect(await back.ask('update', back.update(lease, start))).toMatchObject({ verdict: 'send', offset: CHUNK_BYTES })
    expectOk('update', await back.send(lease, start))
    back.close()
  })

  test('blobs and runs that do not exist, and bytes past the end, are refused', async () => {
    await newcomer()
    const lease = await bad.lease()
    await harmless(async () => {
      expectRefusal(await bad.ask('download', VALID.download), 'blob-unknown', '0'.repeat(64))
      expectRefusal(await bad.ask('download', { blob: { run: 'atlantis', version: 0 }, offset: 0 }), 'run-unknown', 'atlantis')
      const past = await bad.ask('download', { blob: { hash: lease.model }, offset: 10 ** 9 })
      expectRefusal(past, 'malformed', /the blob has \d+ bytes, asked from 1000000000/)
    })
  })

  test('who asks for more than it can read is told to read first [G1]', async () => {
    await newcomer()
    const lease = await bad.lease()
    const blob = { hash: lease.segments[0].shard }
    const replies = await harmless(() =>
      Promise.all(Array.from({ length: 1_000 }, () => bad.ask('download', { blob, offset: 0 }))),
    )
    const refused = replies.filter(({ ok }) => !ok)
    expect(replies.length - refused.length).toBeGreaterThan(0)
    for (const reply of refused) expectRefusal(reply, 'rate-limited', 'read what was sent')
  })
})

describe('the operator API', () => {
  const expectError = async (response: Response, status: number, code: string, ...says: (string | RegExp)[]) => {
    const { error } = (await response.json()) as ApiError
    expect([response.status, error.code]).toEqual([status, code])
    for (const words of says) expect(error.message).toMatch(words)
    return error
  }
  const post = (path: string, body: string, headers: Record<string, string> = {}) =>
    fetch(coordinator.url + path, {
      method: 'POST',
      body,
      headers: { authorization: `Bearer ${coordinator.token}`, 'content-type': 'application/json', ...headers },
    })

  for (const [what, authorization] of [
    ['no token', undefined],
    ['a wrong token', 'Bearer 0123456789'],
    ['another scheme', 'Basic YWRtaW46YWRtaW4='],
    ['the token without its scheme', 'token'],
  ] as const) {
    test(`a request with ${what} is refused with 401`, async () => {
      await harmless(async () => {
        for (const [method, path] of [
          ['GET', '/api/runs'],
          ['POST', '/api/runs'],
          ['GET', `/api/runs/${runs.plain}`],
          ['POST', `/api/runs/${runs.plain}/stop`],
          ['GET', `/api/runs/${runs.plain}/model.safetensors`],
          ['GET', '/api/events'],
        ]) {
          const given = authorization === 'token' ? coordinator.token : authorization
          const response = await fetch(coordinator.url + path, { method, headers: given ? { authorization: given } : {} })
          expect(response.headers.get('www-authenticate')).toBe('Bearer')
          await expectError(response, 401, 'unauthorized', 'Authorization: Bearer')
        }
      })
    })
  }

  test('JSON that is none is refused', async () => {
    await harmless(async () => {
      await expectError(await post('/api/runs', '{"name": '), 400, 'bad-request', /JSON/)
      await expectError(await post('/api/runs', ''), 400, 'bad-request', /empty/)
      await expectError(await post('/api/runs', 'name=x', { 'content-type': 'text/csv' }), 400, 'bad-request', /Media Type/)
      await expectError(await post('/api/runs', '{"__proto__": {"admin": true}}'), 400, 'bad-request')
    })
  })

  test('a body of more than a megabyte is refused', async () => {
    await harmless(async () => {
      await expectError(await post('/api/runs', JSON.stringify({ name: 'x'.repeat(2_000_000) })), 400, 'bad-request', /large/)
    })
  })

  const specs: [string, object | null, Record<string, RegExp>][] = [
    ['nothing', null, { '(the whole spec)': /expected an object, got null/ }],
    ['an unknown dataset', { dataset: { name: 'imagenet' } }, { 'dataset.name': /expected mnist, got "imagenet"/ }],
    ['more training examples than there are', { dataset: { name: 'mnist', train: 70_000 } }, { dataset: /60000.*got 70000/ }],
    ['more test examples than there are', { dataset: { name: 'mnist', test: 10_001 } }, { dataset: /10000.*got 10001/ }],
    ['no stop rule', { stop: undefined }, { stop: /expected an object, got nothing/ }],
    ['an unknown strategy', { strategy: { name: 'gossip' } }, { 'strategy.name': /expected one of downpour.*"gossip"/ }],
    ['a rate below zero', { updateRule: { name: 'sgd', rate: -1 } }, { 'updateRule.rate': /more than 0, got -1/ }],
    [
      'several things wrong',
      { seed: 1.5, leaseSeconds: 0, colour: 'red' },
      { seed: /got 1.5/, leaseSeconds: /at least 0.05, got 0/, colour: /no such field/ },
    ],
  ]
  for (const [what, change, problems] of specs) {
    test(`a RunSpec with ${what} is refused, naming each field, and no run is made`, async () => {
      const before = coordinator.runs.list().length
      await harmless(async () => {
        const spec = change === null ? null : { ...SMALL, ...change }
        const error = await expectError(await post('/api/runs', JSON.stringify(spec)), 400, 'bad-spec')
        expect(error.problems?.map(({ field }) => field).sort()).toEqual(Object.keys(problems).sort())
        for (const { field, message } of error.problems ?? []) expect(message).toMatch(problems[field])
      })
      expect(coordinator.runs.list().length).toBe(before)
    })
  }

  test('a state that a run cannot reach from where it is is refused with 409', async () => {
    const { run } = await coordinator.createRun(SMALL)
    const move = (verb: string) => coordinator.api('POST', `/api/runs/${run}/${verb}`)
    await harmless(async () => {
      await expectError(await move('resume'), 409, 'wrong-state', /running cannot become running; it can become paused/)
      expect((await move('pause')).status).toBe(200)
      await expectError(await move('pause'), 409, 'wrong-state', /paused cannot become paused/)
      expect((await move('stop')).status).toBe(200)
      for (const verb of ['pause', 'resume', 'stop']) {
        await expectError(await move(verb), 409, 'wrong-state', /finished cannot become .* nothing else/)
      }
    })
  })

  test('a run or a path that does not exist is refused with 404', async () => {
    await harmless(async () => {
      for (const path of ['/api/runs/atlantis', '/api/runs/atlantis/metrics', '/api/runs/atlantis/model.json']) {
        await expectError(await coordinator.api('GET', path), 404, 'not-found', 'there is no run atlantis')
      }
      await expectError(await coordinator.api('POST', '/api/runs/atlantis/pause'), 404, 'not-found', 'atlantis')
      await expectError(await coordinator.api('GET', '/api/nothing'), 404, 'not-found', '/api/nothing')
      await expectError(await coordinator.api('GET', '/blobs/0000'), 404, 'not-found', '0000')
      await expectError(await coordinator.api('GET', '/../../etc/passwd'), 404, 'not-found')
      await expectError(await coordinator.api('GET', '/assets/..%2f..%2fpackage.json'), 404, 'not-found')
      await expectError(await coordinator.api('GET', `/api/runs/${runs.plain}/explode`), 404, 'not-found')
    })
  })
})

describe('storage', () => {
  test('on a full disk updates and runs are refused, nothing is half done, and training goes on once there is room [J1] [T1]', async () => {
    const dataFolder = newFolder()
    const path = join(dataFolder, 'journal.sqlite')
    const full = await startCoordinator({ dataFolder, journal: openSqliteJournal(path, { maxPages: 150 }) })
    const { run } = await full.createRun({ ...SMALL, journal: 'everything' })
    const volunteer = await SyntheticVolunteer.join(full.url, { run })
    const refused = await (async () => {
      for (let i = 0; i < 200; i++) {
        const { lease, start } = await volunteer.begin()
        const before = full.bits(run)
        const reply = await volunteer.send(lease, start)
        if (!reply.ok) return { lease, start, reply, before }
      }
      throw new Error('the disk never became full')
    })()
    expect(volunteer.acknowledged.length).toBeGreaterThan(3)
    expectRefusal(refused.reply, 'storage-full', /disk is full.*not taken, send it again/)
    expect((refused.reply as Refusal).retryAfterMs).toBeGreaterThan(0)
    expectRefusal(await volunteer.send(refused.lease, refused.start), 'storage-full')
    expect(full.bits(run).equals(refused.before)).toBe(true)

    const health = await fetch(`${full.url}/healthz`)
    expect(health.status).toBe(503)
    expect(await health.json()).toMatchObject({ ok: false, storage: /disk is full/ })
    const created = await full.api('POST', '/api/runs', SMALL)
    expect(created.status).toBe(507)
    expect(((await created.json()) as ApiError).error).toMatchObject({ code: 'storage-full', message: /not created.*disk is full/ })
    const paused = await full.api('POST', `/api/runs/${run}/pause`)
    expect(paused.status).toBe(507)
    expect(full.runs.list().length).toBe(1)
    expect(full.runs.get(run)!.state).toBe('running')
    volunteer.close()
    await full.stop()

    // The operator made room.
    const roomy = await startCoordinator({ dataFolder })
    expect(roomy.bits(run).equals(refused.before)).toBe(true)
    expect(roomy.runs.get(run)!.detail(0).updatesAccepted).toBe(volunteer.acknowledged.length)
    const again = await SyntheticVolunteer.join(roomy.url, { run })
    await again.work(5)
    expect((await fetch(`${roomy.url}/healthz`)).status).toBe(200)
    again.close()
    await roomy.close()
  })

  test('a coordinator whose journal is damaged, whose port is taken or whose settings are wrong says so and ends with 1', async () => {
    const whole = newFolder()
    const writer = await startCoordinator({ dataFolder: whole })
    await writer.createRun(SMALL)
    await writer.stop()
    const bytes = readFileSync(join(whole, 'journal.sqlite'))
    const folderWith = (make: (path: string) => void) => {
      const folder = newFolder()
      make(join(folder, 'journal.sqlite'))
      return folder
    }
    const notADatabase = folderWith((path) => writeFileSync(path, 'Dear diary, today I trained a network.\n'.repeat(500)))
    const truncated = folderWith((path) => {
      writeFileSync(path, bytes)
      const file = openSync(path, 'r+')
      ftruncateSync(file, Math.floor(statSync(path).size / 2))
      closeSync(file)
    })
    // Every page but the first is overwritten.
    const corrupt = folderWith((path) => {
      writeFileSync(path, bytes)
      const file = openSync(path, 'r+')
      writeSync(file, Buffer.alloc(bytes.length - 8192, 0xa5), 0, bytes.length - 8192, 8192)
      closeSync(file)
    })
    const inUse = newFolder()
    const user = await startCoordinator({ dataFolder: inUse })
    const other = createServer().listen(0)
    const taken = String((other.address() as { port: number }).port)
    const file = join(newFolder(), 'a-file')
    writeFileSync(file, '')

    const cases: [string, Record<string, string>, RegExp][] = [
      ['not a database', { CROWDGRAD_DATA: notADatabase }, /journal\.sqlite is damaged \(it is not a SQLite file\).*move it aside/],
      ['truncated', { CROWDGRAD_DATA: truncated }, /journal\.sqlite is damaged.*restore a copy/],
      ['corrupt', { CROWDGRAD_DATA: corrupt }, /journal\.sqlite is damaged.*restore a copy/],
      ['in use', { CROWDGRAD_DATA: inUse }, /in use by another process.*choose another folder/],
      ['port taken', { PORT: taken }, new RegExp(`port ${taken} is taken.*choose another`)],
      ['port nonsense', { PORT: 'eighty' }, /PORT is "eighty"; expected a whole number from 0 to 65535/],
      ['folder is a file', { CROWDGRAD_DATA: file }, /a-file.*(not a folder|expected a folder)/],
      ['log level', { CROWDGRAD_LOG: 'chatty' }, /CROWDGRAD_LOG is "chatty"; expected one of trace, debug/],
    ]
    const started = cases.map(([, environment]) =>
      startProgram('coordinator/main.ts', [], { PORT: '0', CROWDGRAD_DATA: newFolder(), ...environment }),
    )
    for (const [i, [what, , says]] of cases.entries()) {
      const code = await started[i].exit
      const said = started[i].errors()
      expect([what, code, said]).toEqual([what, 1, expect.stringMatching(says)])
      expect(said.trim().split('\n').length, `${what}: one line for the operator, no stack`).toBe(1)
      expect(said).toMatch(/^crowdgrad: /)
    }
    other.close()
    await user.close()
  })
})
