/**
 * Thousands of malformed frames and messages at a live coordinator, through several sockets at once, while an honest
 * volunteer keeps training. Afterwards it is the same process, the honest one was never refused or cut off, the memory
 * did not grow without bound, and the parameters are those of the honest updates alone.
 */
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { initialParameters } from '../../shared/layout.ts'
import { buildModel } from '../../shared/models.ts'
import { EVENTS } from '../../shared/protocol.ts'
import { VALID } from '../support/bystander.ts'
import { SMALL, startCoordinator } from '../support/coordinator.ts'
import { RawSocket } from '../support/raw-socket.ts'
import { introduction, SyntheticVolunteer } from '../support/synthetic-volunteer.ts'

const SEED = 20261123
const SOCKETS = 4
const ROUNDS = 120
const FRAMES_A_ROUND = 40
/** Garbage that a round leaves behind is collected; what stays after half of the rounds must not grow by more. */
const GROWTH_MAX_BYTES = 24 * 1024 * 1024

/** What a hostile volunteer sends: text or binary WebSocket frames, in order. */
type Frames = (string | Uint8Array)[]

const EVENT_NAMES = Object.keys(EVENTS)
const POLLUTING = ['__proto__', 'constructor', 'prototype', 'toString', 'hasOwnProperty', 'then', '_placeholder']

function frames(run: string, lease: string): fc.Arbitrary<Frames> {
  const text = fc.oneof(
    fc.string({ maxLength: 60 }),
    fc.string({ unit: 'binary', maxLength: 60 }),
    fc.constantFrom('', ...POLLUTING, ...EVENT_NAMES, run, lease, `${run}.`, '\u0000', 'x'.repeat(5_000)),
  )
  const number = fc.oneof(
    fc.constantFrom('1e400', '-1e400', '1e308', '9007199254740993', '-0', '0.5', '-1', '1', '0', '1'.repeat(400)),
    fc.double({ noNaN: true, noDefaultInfinity: true }).map(String),
    fc.integer().map(String),
  )
  // As JSON text, not as values: numbers that JavaScript cannot hold, and keys that assigning would lose.
  const json: fc.Memo<string> = fc.memo((depth) => {
    const leaf = fc.oneof(
      number,
      text.map((value) => JSON.stringify(value)),
      fc.constantFrom(
        'null',
        'true',
        'false',
        '{}',
        '[]',
        '{"_placeholder":true,"num":0}',
        '{"_placeholder":true,"num":1e9}',
      ),
    )
    if (depth <= 1) return leaf
    const inner = json(depth - 1)
    const key = fc.oneof(text, fc.constantFrom(...POLLUTING, 'lease', 'blob', 'offset', 'bytes', 'payload', 'size'))
    return fc.oneof(
      leaf,
      fc.array(inner, { maxLength: 4 }).map((items) => `[${items.join(',')}]`),
      fc
        .array(fc.tuple(key, inner), { maxLength: 5 })
        .map((pairs) => `{${pairs.map(([key, value]) => `${JSON.stringify(key)}:${value}`).join(',')}}`),
    )
  })
  const deep = fc
    .tuple(fc.constantFrom('[', '{"a":'), fc.integer({ min: 100, max: 20_000 }))
    .map(([opening, depth]) => {
      const closing = opening === '[' ? ']' : '}'
      return `${opening.repeat(depth)}1${closing.repeat(depth)}`
    })
  const anything = fc.oneof({ weight: 6, arbitrary: json(4) }, { weight: 1, arbitrary: deep })
  const event = fc.oneof({ weight: 4, arbitrary: fc.constantFrom(...EVENT_NAMES) }, { weight: 1, arbitrary: text })
  const id = fc.oneof(fc.nat({ max: 1e6 }).map(String), fc.constantFrom('', '', '9'.repeat(30)))
  const bytes = fc.uint8Array({ maxLength: 300 })

  /**
   * A right message of which one field is something else, is lacking, or is one too many; or that names a real lease.
   */
  const mutated = fc
    .tuple(fc.constantFrom(...(Object.keys(VALID) as (keyof typeof VALID)[])), fc.nat(), anything, fc.boolean())
    .map(([name, which, value, real]) => {
      const fields: Record<string, unknown> = { ...VALID[name] }
      if (real && 'lease' in fields) fields.lease = lease
      if ('bytes' in fields) fields.bytes = { _placeholder: true, num: 0 }
      const keys = [...Object.keys(fields), 'one-too-many']
      const target = keys[which % keys.length]
      const rest = Object.entries(fields).filter(([key]) => key !== target)
      const kept = rest.map(([key, value]) => `${JSON.stringify(key)}:${JSON.stringify(value)}`)
      const changed = which % 5 === 0 ? kept : [...kept, `${JSON.stringify(target)}:${value}`]
      return `[${JSON.stringify(name)},{${changed.join(',')}}]`
    })
  const message = fc.oneof(
    mutated,
    fc.tuple(event, anything).map(([name, value]) => `[${JSON.stringify(name)},${value}]`),
    fc.tuple(event, anything, anything).map(([name, a, b]) => `[${JSON.stringify(name)},${a},${b}]`),
    anything,
  )
  const type = fc.constantFrom('2', '2', '2', '2', '3', '4', '7', '')
  return fc.oneof(
    { weight: 6, arbitrary: fc.tuple(id, message).map(([id, text]): Frames => [`42${id}${text}`]) },
    {
      weight: 3,
      // Attachments: as many as announced, fewer, more, or none at all.
      arbitrary: fc
        .tuple(fc.integer({ min: 0, max: 12 }), id, message, fc.array(bytes, { maxLength: 3 }))
        .map(([count, id, text, attachments]): Frames => [`45${count}-${id}${text}`, ...attachments]),
    },
    { weight: 2, arbitrary: fc.tuple(type, text).map(([type, text]): Frames => [`4${type}${text}`]) },
    { weight: 1, arbitrary: fc.tuple(type, text).map(([type, text]): Frames => [`4${type}/${text},[]`]) },
    { weight: 1, arbitrary: bytes.map((bytes): Frames => [bytes]) },
    { weight: 1, arbitrary: text.map((text): Frames => [text]) },
  )
}

/**
 * A socket of the hostile crowd, opened again whenever it is cut off; it says hello, so that its messages are heard.
 */
class Hostile {
  private raw: RawSocket | null = null
  private fence = 1e9
  cutOff = 0

  private readonly url: string

  constructor(url: string) {
    this.url = url
  }

  async send(frames: Frames): Promise<void> {
    if (!this.raw?.open) {
      this.raw = await RawSocket.open(this.url)
      await this.raw.ask('hello', introduction(), this.fence++)
    }
    for (const frame of frames) this.raw.send(frame)
  }

  /** Everything sent has been answered, or the connection is over. */
  async settle(): Promise<void> {
    if (!this.raw) return
    // The first may end as the text that stood where an attachment was expected.
    for (let i = 0; i < 2; i++) this.raw.send(`42${++this.fence}["start",{"lease":"fence"}]`)
    const last = `43${this.fence}[`
    await this.raw
      .text((text) => text.startsWith(last), 30_000)
      .catch((error) => {
        if (this.raw!.open) throw error
        this.cutOff++
      })
    this.raw.texts.length = 0
  }

  close(): void {
    this.raw?.close()
  }
}

setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc') as () => void

function heldBytes(): number {
  collect()
  const { heapUsed, external, arrayBuffers } = process.memoryUsage()
  return heapUsed + external + arrayBuffers
}

test('thousands of malformed frames disturb nobody and change nothing [T1] [G1] [G2] [G3]', async () => {
  // Time stands still: the lease below neither expires nor grows stale.
  const startedAt = Date.now()
  const coordinator = await startCoordinator({ now: () => startedAt })
  const strategy = { ...SMALL.strategy, maxStaleness: 2 * ROUNDS }
  // Enough examples that the leases which hostile ones take, and never end, are not all there is.
  const dataset = { name: 'mnist', train: 20_000, test: 200 }
  const { run } = await coordinator.createRun({ ...SMALL, dataset, strategy })
  const faults: unknown[] = []
  const fault = (error: unknown) => faults.push(error)
  process.on('uncaughtException', fault)
  const honest = await SyntheticVolunteer.join(coordinator.url, { run })
  // A started lease that the hostile ones know the name of.
  const { lease, start } = await honest.begin()
  const hostile = Array.from({ length: SOCKETS }, () => new Hostile(coordinator.url))
  let sent = 0
  let rounds = 0
  let heldAtHalf = 0

  await fc.assert(
    fc.asyncProperty(
      fc.array(frames(run, lease.id), { minLength: FRAMES_A_ROUND, maxLength: FRAMES_A_ROUND }),
      async (all) => {
        const honestly = honest.work(1)
        for (const [i, frames] of all.entries()) {
          await hostile[i % SOCKETS].send(frames)
          sent += frames.length
        }
        await Promise.all(hostile.map((socket) => socket.settle()))
        await honestly
        expect(honest.disconnects).toEqual([])
        expect(honest.refusals).toEqual([])
        expect(faults).toEqual([])
        if (++rounds === ROUNDS / 2) heldAtHalf = heldBytes()
      },
    ),
    { seed: SEED, numRuns: ROUNDS, endOnFailure: true },
  )
  expect(await honest.send(lease, start)).toMatchObject({ ok: true, verdict: 'accepted' })
  const grown = heldBytes() - heldAtHalf
  process.off('uncaughtException', fault)

  expect(sent).toBeGreaterThan(ROUNDS * FRAMES_A_ROUND)
  expect(grown, 'bytes held after all rounds beyond those after half of them').toBeLessThan(GROWTH_MAX_BYTES)
  expect(({} as Record<string, unknown>).admin).toBeUndefined()
  expect(
    hostile.reduce((sum, { cutOff }) => sum + cutOff, 0),
    'connections that had to be ended',
  ).toBeGreaterThan(0)

  // w ← w − rate·g in float32, one honest update after the other: plain JavaScript, no kernel.
  const { layout } = buildModel(SMALL.model, { inputShape: [28, 28, 1], classes: 10 }, null)
  const expected = initialParameters(layout, 1)
  const rate = Math.fround(SMALL.updateRule.rate)
  const inOrder = [...honest.acknowledged].sort((a, b) => a.version - b.version)
  expect(inOrder.map(({ version }) => version)).toEqual(Array.from({ length: ROUNDS + 1 }, (_, i) => i + 1))
  for (const { payload } of inOrder) {
    const gradient = new Float32Array(payload.buffer, payload.byteOffset, payload.length / 4)
    for (let i = 0; i < expected.length; i++) expected[i] -= Math.fround(rate * gradient[i])
  }
  expect(coordinator.bits(run).equals(Buffer.from(expected.buffer))).toBe(true)
  expect(coordinator.runs.get(run)!.detail(0)).toMatchObject({
    updatesAccepted: honest.acknowledged.length,
    examples: 10 * honest.acknowledged.length,
  })

  for (const socket of hostile) socket.close()
  honest.close()
  await coordinator.close()
})
