/**
 * What every Journal promises, whatever it is kept in. `open` gives a fresh journal; `reopen` closes one and opens what
 * it left behind, as a restarted coordinator does.
 */
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Checkpoint, Entry, Journal } from '../../coordinator/journal/journal.ts'
import { entry, numbers, payload } from './journal-entries.ts'

interface JournalHarness {
  open(): Journal | Promise<Journal>
  reopen(journal: Journal): Journal | Promise<Journal>
}

function checkpoint(run: string, seq: number): Checkpoint {
  return {
    run,
    seq,
    state: { seq, epoch: seq / 10 },
    vectors: [
      { name: 'parameters', range: 0, values: Float32Array.of(seq, 0.1, -0, Number.NaN, 1e-42, Number.MAX_VALUE) },
      { name: 'parameters', range: 1, values: Float32Array.of(seq + 0.5) },
      { name: 'squares', range: 0, values: new Float32Array(0) },
    ],
  }
}

export function journalContract(name: string, harness: JournalHarness): void {
  describe(`the journal contract: ${name}`, () => {
    let journal: Journal
    beforeEach(async () => {
      journal = await harness.open()
    })
    afterEach(() => journal.close())
    const restart = async () => {
      journal = await harness.reopen(journal)
    }

    test('an empty one has no runs, no entries, no checkpoint and no settings', () => {
      expect(journal.runs()).toEqual([])
      expect([...journal.read('a', 0)]).toEqual([])
      expect(journal.loadCheckpoint('a')).toBeNull()
      expect(journal.get('key')).toBeNull()
      journal.prune('a')
    })

    test('entries come back as they were written, in order, and after a restart too', async () => {
      const written = [entry('a', 1), entry('b', 2, null), entry('a', 3, 0), entry('a', 4, 9000)]
      expect(journal.append(written.slice(0, 1))).toBe(1)
      expect(journal.append(written.slice(1))).toBe(2)
      const all = written.map((each, i) => ({ ...each, seq: i + 1, pruned: false }))
      for (let round = 0; round < 2; round++) {
        expect([...journal.read('a', 0)]).toEqual([all[0], all[2], all[3]])
        expect([...journal.read('a', 1)]).toEqual([all[2], all[3]])
        expect([...journal.read('a', 2)]).toEqual([all[2], all[3]])
        expect([...journal.read('a', 4)]).toEqual([])
        expect([...journal.read('b', 0)]).toEqual([all[1]])
        expect([...journal.read('c', 0)]).toEqual([])
        await restart()
      }
      expect(journal.append([entry('b', 5)])).toBe(5)
      expect(numbers(journal.read('b', 0))).toEqual([2, 5])
    })

    test('appending nothing writes nothing', () => {
      journal.append([entry('a', 1)])
      journal.append([])
      expect(journal.append([entry('a', 2)])).toBe(2)
    })

    test('the bytes are those of the view at the time of the call, and nobody shares them', () => {
      const buffer = payload(9, 50)
      const floats = new Float32Array([1, 2, 3, 4])
      journal.append([{ ...entry('a', 1), payload: buffer.subarray(10, 20) }])
      journal.saveCheckpoint({
        run: 'a',
        seq: 1,
        state: null,
        vectors: [{ name: 'parameters', range: 0, values: floats.subarray(1, 3) }],
      })
      buffer.fill(0)
      floats.fill(0)
      const read = () => [...journal.read('a', 0)][0].payload as Uint8Array
      expect(read()).toEqual(payload(9, 50).subarray(10, 20))
      read().fill(0)
      expect(read()).toEqual(payload(9, 50).subarray(10, 20))
      const load = () => journal.loadCheckpoint('a')?.vectors[0].values as Float32Array
      expect(load()).toEqual(Float32Array.of(2, 3))
      load().fill(0)
      expect(load()).toEqual(Float32Array.of(2, 3))
    })

    test('data is a JSON value: any text, nothing becomes null, a fraction of a millisecond survives', () => {
      const data = ['é \u0000 "quoted" \ud83e\udd80 \ud800', { deep: [null, true, 1e-300, -0.1] }, undefined, 7]
      journal.append(data.map((each) => ({ ...entry('a', 0, null), at: 0.125, data: each })))
      const read = [...journal.read('a', 0)]
      expect(read.map((each) => each.data)).toEqual([data[0], data[1], null, 7])
      expect(read[0].at).toBe(0.125)
    })

    test('a group with an entry that cannot be written leaves nothing of itself', () => {
      const circular: Record<string, unknown> = {}
      circular.self = circular
      expect(() => journal.append([entry('a', 1), { ...entry('a', 2), data: circular }])).toThrow(TypeError)
      expect([...journal.read('a', 0)]).toEqual([])
      expect(journal.append([entry('a', 3)])).toBe(1)
    })

    test('reading goes on while entries are appended, and ends with those that existed when it began', () => {
      journal.append([entry('a', 1), entry('a', 2), entry('a', 3)])
      const seen: number[] = []
      const entries = journal.read('a', 0)
      journal.append([entry('a', 4)])
      for (const { seq } of entries) {
        seen.push(seq)
        journal.append([entry('a', 5), entry('b', 6)])
      }
      expect(seen).toEqual([1, 2, 3])
      // A reader that is left halfway holds nothing up.
      journal.read('a', 0).next()
      journal.saveCheckpoint(checkpoint('a', 4))
      expect(numbers(journal.read('a', 3))).toEqual([4, 5, 5, 5])
    })

    test('runs come oldest first', async () => {
      journal.append([entry('zebra', 1), entry('ape', 2), entry('zebra', 3)])
      journal.append([entry('mule', 4)])
      expect(journal.runs()).toEqual(['zebra', 'ape', 'mule'])
      await restart()
      expect(journal.runs()).toEqual(['zebra', 'ape', 'mule'])
    })

    test('a checkpoint comes back bit by bit; the newest of its own run', async () => {
      journal.saveCheckpoint(checkpoint('a', 10))
      journal.saveCheckpoint(checkpoint('a', 30))
      journal.saveCheckpoint(checkpoint('a', 20))
      journal.saveCheckpoint(checkpoint('b', 40))
      for (let round = 0; round < 2; round++) {
        const loaded = journal.loadCheckpoint('a')
        expect(loaded).toEqual(checkpoint('a', 30))
        const bits = ({ vectors }: Checkpoint) =>
          vectors.map(({ values }) => [...new Uint32Array(values.slice().buffer)])
        expect(bits(loaded as Checkpoint)).toEqual(bits(checkpoint('a', 30)))
        expect(journal.loadCheckpoint('b')).toEqual(checkpoint('b', 40))
        await restart()
      }
    })

    test('a second checkpoint at one position replaces the first', () => {
      journal.saveCheckpoint(checkpoint('a', 10))
      journal.saveCheckpoint({ run: 'a', seq: 10, state: 'again', vectors: [] })
      expect(journal.loadCheckpoint('a')).toEqual({ run: 'a', seq: 10, state: 'again', vectors: [] })
    })

    test('pruning waits for a second checkpoint', () => {
      journal.append([entry('a', 1), entry('a', 2)])
      journal.prune('a')
      journal.saveCheckpoint(checkpoint('a', 2))
      journal.prune('a')
      expect([...journal.read('a', 0)].some(({ pruned }) => pruned)).toBe(false)
    })

    test('pruning forgets payloads up to the second-newest checkpoint, and only those', async () => {
      const written = [entry('a', 1), entry('a', 2, null), entry('b', 3), entry('a', 4), entry('a', 5)]
      journal.append(written)
      for (const seq of [1, 2, 4]) journal.saveCheckpoint(checkpoint('a', seq))
      const expected = written.map((each, i) => ({ ...each, seq: i + 1, pruned: false }) as Entry)
      expected[0] = { ...expected[0], payload: null, pruned: true }
      for (let round = 0; round < 2; round++) {
        journal.prune('a')
        expect([...journal.read('a', 0), ...journal.read('b', 0)].sort((x, y) => x.seq - y.seq)).toEqual(expected)
        expect(journal.loadCheckpoint('a')).toEqual(checkpoint('a', 4))
        await restart()
      }
      journal.append([entry('a', 6), entry('a', 7)])
      journal.saveCheckpoint(checkpoint('a', 6))
      journal.prune('a')
      journal.saveCheckpoint(checkpoint('a', 7))
      journal.prune('a')
      const state = [...journal.read('a', 0)].map(({ seq, pruned, payload }) => [seq, pruned, payload === null])
      expect(state).toEqual([
        [1, true, true],
        [2, false, true],
        [4, true, true],
        [5, true, true],
        [6, true, true],
        [7, false, false],
      ])
    })

    test('settings are kept, the last value of each', async () => {
      journal.set('identity', 'first')
      journal.set('identity', 'second')
      journal.set('other', '')
      await restart()
      expect(journal.get('identity')).toBe('second')
      expect(journal.get('other')).toBe('')
      expect(journal.get('none')).toBeNull()
    })

    test('closing twice is closing once; using it afterwards is a fault of the caller', () => {
      const reading = journal.read('a', 0)
      journal.close()
      journal.close()
      const uses = [
        () => journal.append([entry('a', 1)]),
        () => journal.read('a', 0),
        () => reading.next(),
        () => journal.runs(),
        () => journal.saveCheckpoint(checkpoint('a', 1)),
        () => journal.loadCheckpoint('a'),
        () => journal.prune('a'),
        () => journal.get('key'),
        () => journal.set('key', 'value'),
      ]
      for (const use of uses) expect(use).toThrow('invariant: the journal is closed')
    })
  })
}
