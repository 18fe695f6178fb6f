/** Payloads in chunks and windows, whatever is lost or comes twice. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { CHUNK_BYTES } from '../../shared/protocol.ts'
import { type Cut, Incoming, Outgoing, WINDOW_FIRST, WINDOW_LEAST, WINDOW_MOST } from '../../shared/transfer.ts'

const size = fc.integer({ min: 0, max: 12 * CHUNK_BYTES })

/** Bytes that differ from place to place, so that a misplaced chunk shows. */
const all = Uint8Array.from({ length: 12 * CHUNK_BYTES }, (_, i) => (i * 31 + (i >> 8)) & 255)
const pattern = (length: number) => all.subarray(0, length)

describe('a transfer', () => {
  test('brings every byte to its place, in order, through any number of lost connections', () => {
    fc.assert(
      fc.property(size, fc.array(fc.integer({ min: 0, max: 4 }), { maxLength: 200 }), (length, script) => {
        const blob = pattern(length)
        const outgoing = new Outgoing(length)
        const incoming = new Incoming(length)
        let wire: Cut[] = []
        let acknowledgements: number[] = []
        let window = WINDOW_FIRST
        // After the script: send, deliver, acknowledge, in turns.
        let turn = 0
        const steps = [...script]
        while (!outgoing.complete) {
          switch (steps.shift() ?? turn++ % 3) {
            case 0: {
              const cut = outgoing.next()
              if (cut) wire.push(cut)
              break
            }
            case 1: {
              const cut = wire.shift()
              if (!cut) break
              const taken = incoming.take(cut.offset, blob.subarray(cut.offset, cut.offset + cut.length))
              expect(taken.ok).toBe(true)
              acknowledgements.push(incoming.received)
              break
            }
            case 2: {
              const received = acknowledgements.shift()
              if (received === undefined) break
              window = Math.min(WINDOW_MOST, window + Math.max(0, received - outgoing.received) / CHUNK_BYTES)
              outgoing.acknowledge(received, 10)
              break
            }
            default:
              // The connection is lost with everything on it; the other end says what it has.
              wire = []
              acknowledgements = []
              outgoing.resume(incoming.received)
              window = WINDOW_FIRST
          }
          const underWay = wire.reduce((sum, cut) => sum + cut.length, 0)
          expect(underWay).toBeLessThanOrEqual(window * CHUNK_BYTES)
        }
        expect(Buffer.compare(incoming.bytes(), blob)).toBe(0)
      }),
      { numRuns: 60 },
    )
  })

  test('sends nothing twice and nothing beyond the window while no acknowledgement comes', () => {
    fc.assert(
      fc.property(size, fc.integer({ min: 0, max: 12 * CHUNK_BYTES }), (length, from) => {
        const outgoing = new Outgoing(length, from)
        const begin = Math.min(from, length)
        let expected = begin
        for (let cut = outgoing.next(); cut; cut = outgoing.next()) {
          expect(cut.offset).toBe(expected)
          expect(cut.length).toBeGreaterThan(0)
          expect(cut.length).toBeLessThanOrEqual(CHUNK_BYTES)
          expected += cut.length
        }
        expect(expected).toBe(Math.min(length, begin + WINDOW_FIRST * CHUNK_BYTES))
        expect(outgoing.complete).toBe(begin === length)
      }),
    )
  })

  test('an acknowledgement that is old, or of bytes never sent, moves nothing', () => {
    const outgoing = new Outgoing(3 * CHUNK_BYTES)
    outgoing.next()
    outgoing.acknowledge(3 * CHUNK_BYTES, 10)
    expect(outgoing.received).toBe(CHUNK_BYTES)
    outgoing.acknowledge(5, 10)
    expect(outgoing.received).toBe(CHUNK_BYTES)
  })

  test('every chunk that is acknowledged promptly widens the window, one that waits long halves it, once a window', () => {
    const line = lineOf(1_000 * CHUNK_BYTES)
    expect(line.underWay()).toBe(WINDOW_FIRST)
    const widths = Array.from({ length: 40 }, () => line.acknowledged(10))
    // By what is acknowledged; a chunk of two, which come from 8 on, is sent when there is room for all of it.
    expect(widths.slice(0, 8)).toEqual([5, 6, 7, 8, 9, 10, 11, 10])
    expect(widths.at(-1)).toBe(WINDOW_MOST)
    // What is under way already stays so, and waited behind the window of before: it comes in, and one halving is all.
    const before = line.cuts.length
    const narrower = Array.from({ length: 60 }, () => line.acknowledged(3_000))
    expect(narrower[before - 1]).toBe(WINDOW_MOST / 2)
    expect(narrower.at(-1)).toBe(WINDOW_LEAST)
    // A long way that is not slow: a chunk more for every window.
    expect(Array.from({ length: 3 }, () => line.acknowledged(600))).toEqual([2, 2, 3])
    expect(line.acknowledged(10)).toBe(4)
    line.lost()
    expect(line.underWay()).toBe(WINDOW_FIRST)
  })

  test('over a long way that is not slow the window widens by CHUNK_BYTES a window, however large its chunks are', () => {
    const line = lineOf(1_000 * CHUNK_BYTES)
    let [window, windows] = [line.underWay(), 0]
    for (; window < WINDOW_MOST; windows++) {
      const all = line.cuts.length
      for (let i = 0; i < all; i++) window = line.acknowledged(600)
    }
    expect(windows).toBeGreaterThanOrEqual(WINDOW_MOST - WINDOW_FIRST)
    expect(windows).toBeLessThanOrEqual(WINDOW_MOST)
  })

  test('chunks grow with the window to a quarter of it, and shrink with it', () => {
    const line = lineOf(1_000 * CHUNK_BYTES)
    const chunks = () => line.cuts.map(({ length }) => length / CHUNK_BYTES)
    line.underWay()
    expect(chunks()).toEqual([1, 1, 1, 1])
    for (let i = 0; i < 40; i++) line.acknowledged(10)
    expect(chunks()).toEqual([4, 4, 4, 4])
    for (let i = 0; i < 60; i++) line.acknowledged(3_000)
    expect(chunks()).toEqual([1, 1])
    line.lost()
    line.underWay()
    expect(chunks()).toEqual([1, 1, 1, 1])
  })
})

/** A transfer of which everything is sent that may be, and acknowledged chunk by chunk. */
function lineOf(size: number) {
  const outgoing = new Outgoing(size)
  let cuts: Cut[] = []
  /** In CHUNK_BYTES. */
  const underWay = () => {
    for (let cut = outgoing.next(); cut; cut = outgoing.next()) cuts.push(cut)
    return cuts.reduce((sum, { length }) => sum + length, 0) / CHUNK_BYTES
  }
  return {
    get cuts() {
      return cuts
    },
    underWay,
    acknowledged(tookMs: number) {
      const { offset, length } = cuts.shift()!
      outgoing.acknowledge(offset + length, tookMs)
      return underWay()
    },
    lost() {
      outgoing.resume(outgoing.received)
      cuts = []
    },
  }
}

describe('incoming bytes', () => {
  test('that do not follow the last ones, or are too many, are refused and change nothing', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 1000 }),
        fc.array(fc.record({ offset: fc.integer({ min: 0, max: 1200 }), length: fc.integer({ min: 0, max: 300 }) })),
        (length, chunks) => {
          const blob = pattern(2000)
          const incoming = new Incoming(length)
          for (const { offset, length: count } of chunks) {
            const before = incoming.received
            const taken = incoming.take(offset, blob.subarray(offset, offset + count))
            if (offset !== before) expect(taken).toMatchObject({ ok: false, code: 'transfer-out-of-order' })
            else if (offset + count > length) expect(taken).toMatchObject({ ok: false, code: 'too-large' })
            else expect(taken).toEqual({ ok: true, received: before + count })
            expect(incoming.received).toBe(taken.ok ? before + count : before)
          }
          incoming.take(incoming.received, blob.subarray(incoming.received, length))
          expect(Buffer.compare(incoming.bytes(), blob.subarray(0, length))).toBe(0)
        },
      ),
    )
  })

  test('are not to be read before they are complete', () => {
    expect(() => new Incoming(1).bytes()).toThrow('invariant')
  })
})
