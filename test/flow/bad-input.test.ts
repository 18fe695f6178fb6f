/**
 * Bad input at a real coordinator, from the frame to who somebody says to be. Each time: the sender gets the exact code
 * and a message that says what was expected and what came, the process lives, and nobody else notices
 * (support/bystander.ts). Leases and updates: bad-update.test.ts; transfers: bad-transfer.test.ts; operators:
 * bad-request.test.ts; the disk: bad-storage.test.ts.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  CHUNK_MOST_BYTES,
  EVENTS,
  type EventName,
  MAX_FRAME_BYTES,
  PROTOCOL_VERSION,
  type RefusalCode,
} from '../../shared/protocol.ts'
import { Bystander, expectRefusal, VALID } from '../support/bystander.ts'
import { until } from '../support/coordinator.ts'
import { RawSocket } from '../support/raw-socket.ts'
import { ask, connect, expectOk, introduction } from '../support/synthetic-volunteer.ts'

let bystander: Bystander
beforeAll(async () => {
  bystander = await Bystander.start()
})
afterAll(() => bystander?.close())

describe('frames that are no messages', () => {
  /** What is sent before and after joining; nothing of it is a packet of ours. */
  const junk: [string, (string | Uint8Array)[]][] = [
    ['an event that is no list', ['42{"lease":{}}']],
    ['an event without a name', ['42[]']],
    ['an event without anything', ['42']],
    ['an event whose name is a number', ['42[7,{}]']],
    ['a binary event without anything', ['451-', new Uint8Array(1)]],
    ['an event whose name is reserved', ['42["disconnect"]']],
    ['broken JSON', ['42["lease",{']],
    ['a packet type that does not exist', ['49']],
    ['binary data without a header', [new Uint8Array(100)]],
    [
      'a header that is followed by text instead of its binary data',
      ['451-["chunk",{"_placeholder":true,"num":0}]', '42["x"]'],
    ],
    ['more attachments than anybody needs', ['4599-["chunk"]']],
    ['an attachment that is not there', ['451-["chunk",{"_placeholder":true,"num":7}]', new Uint8Array(1)]],
    ['JSON nested 200,000 deep', [`42["lease",${'['.repeat(200_000)}${']'.repeat(200_000)}]`]],
    [
      'JSON nested 200,000 deep with binary data',
      [`451-["lease",${'['.repeat(200_000)}${']'.repeat(200_000)}]`, new Uint8Array(1)],
    ],
  ]
  for (const [what, frames] of junk) {
    test(`${what} is refused with a code, and the connection goes on [G1] [G2] [T1]`, async () => {
      await bystander.harmless(async () => {
        const raw = await RawSocket.open(bystander.coordinator.url)
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
      await bystander.harmless(async () => {
        const raw = await RawSocket.open(bystander.coordinator.url, { joined: !what.includes('before joining') })
        send(raw)
        await raw.closed
      })
    })
  }

  test('a frame of more than 1 MiB ends its connection with WebSocket code 1009 [G2]', async () => {
    await bystander.harmless(async () => {
      const raw = await RawSocket.open(bystander.coordinator.url)
      raw.send(new Uint8Array(MAX_FRAME_BYTES + 1))
      await raw.closed
      expect(raw.closeCode).toBe(1009)
    })
  })

  test('a frame of exactly 1 MiB is read, and refused for what it is [G1]', async () => {
    await bystander.harmless(async () => {
      const raw = await RawSocket.open(bystander.coordinator.url)
      raw.send(new Uint8Array(MAX_FRAME_BYTES))
      await raw.text((text) => text.includes('"junk-frame"'))
      raw.close()
    })
  })

  test('who sends nothing but junk is cut off after a hundred frames [G2]', async () => {
    await bystander.harmless(async () => {
      const raw = await RawSocket.open(bystander.coordinator.url)
      for (let i = 0; i < 150; i++) raw.send('42{}')
      await raw.closed
      expect(raw.texts.filter((text) => text.includes('"junk-frame"')).length).toBeLessThanOrEqual(100)
    })
  })

  test('who asks without reading the answers is cut off, and its answers are not kept [G2]', async () => {
    await bystander.harmless(async () => {
      const raw = await RawSocket.open(bystander.coordinator.url)
      expect(await raw.ask('hello', introduction(), 1)).toMatchObject({ ok: true })
      raw.deafen()
      const question = JSON.stringify(['start', { lease: `nobody.${'x'.repeat(100)}` }])
      const connections = () => bystander.coordinator.runs.get(bystander.runs.plain)!.roster.connected.length
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
      [
        'a protocol version in words',
        { ...VALID.hello, protocol: 'one' },
        /field protocol: .*expected.*received string/,
      ],
      [
        'an instance in capitals',
        { ...VALID.hello, instance: 'NOT-LIKE-THIS' },
        /field instance: expected 8 to 32 of 0-9a-z/,
      ],
      [
        'a backend that does not exist',
        { ...VALID.hello, backend: 'quantum' },
        /field backend: .*expected one of "webgpu"/,
      ],
      ['a field too many', { ...VALID.hello, admin: true }, /admin/],
    ],
    lease: [
      ['a text', 'please', /expected object, received string/],
      ['a field too many', { many: 2 }, /many/],
    ],
    download: [
      ['a hash that is none', { blob: { hash: 'zz' }, offset: 0, length: 1 }, /field blob/],
      ['an offset below zero', { ...VALID.download, offset: -1 }, /field offset: .*>=0/],
      ['an offset between bytes', { ...VALID.download, offset: 0.5 }, /field offset: .*expected int/],
      ['no bytes', { ...VALID.download, length: 0 }, /field length: .*>=1/],
      ['more bytes than a chunk has', { ...VALID.download, length: CHUNK_MOST_BYTES + 1 }, /field length: .*<=262144/],
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
        const bad = await bystander.newcomer()
        const reply = await bystander.harmless(() => bad.ask(event, message))
        expectRefusal(reply, 'malformed', `"${event}"`, says)
      })
    }
  }

  test('keys that would change every object change none [T1]', async () => {
    await bystander.harmless(async () => {
      const raw = await RawSocket.open(bystander.coordinator.url)
      raw.send('427["lease",{"__proto__":{"admin":true}}]')
      expect(JSON.parse((await raw.text((text) => text.startsWith('437['))).slice(3))[0]).toMatchObject({ ok: false })
      raw.send('428["lease",{"constructor":{"prototype":{"admin":true}}}]')
      expect(JSON.parse((await raw.text((text) => text.startsWith('438['))).slice(3))[0]).toMatchObject({ ok: false })
      expect(({} as { admin?: boolean }).admin).toBeUndefined()
      raw.close()
    })
  })

  test('a field name of half a megabyte is not sent back [G2]', async () => {
    const bad = await bystander.newcomer()
    const reply = await bystander.harmless(() => bad.ask('lease', { ['k'.repeat(500_000)]: 1 }))
    expectRefusal(reply, 'malformed', '"lease"')
  })

  for (const event of Object.keys(EVENTS) as EventName[]) {
    test(`${event} that asks for no acknowledgement is refused by a message of its own [G1]`, async () => {
      const bad = await bystander.newcomer()
      await bystander.harmless(async () => {
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
      const bad = await bystander.newcomer()
      const reply = await bystander.harmless(() => bad.socket.timeout(5_000).emitWithAck('lease', ...args))
      expectRefusal(reply, 'malformed', '"lease"')
    })
  }

  for (const event of [
    'nonsense',
    'toString',
    'constructor',
    '__proto__',
    'hasOwnProperty',
    '\u0000junk',
    'x'.repeat(10_000),
  ]) {
    test(`"${event.slice(0, 20)}", which is no message, is refused with and without an acknowledgement [G1] [G2]`, async () => {
      const bad = await bystander.newcomer()
      await bystander.harmless(async () => {
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
      const socket = await connect(bystander.coordinator.url)
      const reply = await bystander.harmless(() => ask(socket, event, VALID[event]))
      expectRefusal(reply, 'hello-first', `say hello before "${event}"`)
      socket.disconnect()
    })
  }

  const strangers: [string, object, RefusalCode, RegExp][] = [
    [
      'another protocol version',
      { protocol: 1 },
      'protocol-version',
      new RegExp(`speaks version ${PROTOCOL_VERSION}, got 1`),
    ],
    ['a token that is none', { token: 'nonsense' }, 'bad-token', /not of this coordinator/],
    ['a token of nothing', { token: '' }, 'bad-token', /not of this coordinator/],
    ['a token with a forged hash', { token: `abcdef012345.${'0'.repeat(32)}` }, 'bad-token', /not of this coordinator/],
    ['a wrong trust key', { trustKey: 'guessed' }, 'bad-token', /trust key is not that of this coordinator/],
    ['a run that does not exist', { run: 'atlantis' }, 'run-unknown', /no run atlantis/],
  ]
  for (const [what, fields, code, says] of strangers) {
    test(`hello with ${what} is refused, and a right one may follow [G1]`, async () => {
      const socket = await connect(bystander.coordinator.url)
      await bystander.harmless(async () => {
        expectRefusal(await ask(socket, 'hello', { ...introduction(), ...fields }), code, says)
        expect(await ask(socket, 'lease', {})).toMatchObject({ code: 'hello-first' })
        expectOk('hello', await ask(socket, 'hello', introduction()))
      })
      socket.disconnect()
    })
  }

  test("somebody else's token with a letter changed is refused", async () => {
    const { token } = bystander.honest.welcome
    const forged = token.replace(/^./, (first) => (first === 'a' ? 'b' : 'a'))
    const socket = await connect(bystander.coordinator.url)
    expectRefusal(await bystander.harmless(() => ask(socket, 'hello', introduction({ token: forged }))), 'bad-token')
    socket.disconnect()
  })

  test('a connection that has said hello cannot become somebody else', async () => {
    const bad = await bystander.newcomer()
    const reply = await bystander.harmless(() => bad.ask('hello', introduction()))
    expectRefusal(reply, 'malformed', /somebody else/)
  })
})
