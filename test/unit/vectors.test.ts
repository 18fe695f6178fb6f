/** Named vectors across ranges: every operation against plain loops over the whole, at sizes with one range and two. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Vectors } from '../../coordinator/parameters/vectors.ts'
import { codecs, decodeVector, encodeVector } from '../../shared/codec.ts'
import { CODECS } from '../../shared/codec-names.ts'
import { RANGE_FLOATS } from '../../shared/layout.ts'
import { expectSame, f, sample } from '../support/kernel-workbench.ts'

const SIZES = [1, 37, RANGE_FLOATS + 5]

function filled(size: number): { vectors: Vectors; a: Float32Array; b: Float32Array } {
  const vectors = new Vectors(size)
  const [a, b] = [sample(size, 1), sample(size, 2)]
  for (const [name, values] of [
    ['a', a],
    ['b', b],
  ] as const) {
    vectors.create(name)
    vectors.write(name, values)
  }
  return { vectors, a, b }
}

describe.each(SIZES)('vectors of %i floats', (size) => {
  const cases: { name: string; run: (vectors: Vectors) => void; one: (a: number, b: number) => number }[] = [
    { name: 'fill', run: (v) => v.fill('a', 0.1), one: () => f(0.1) },
    { name: 'copy', run: (v) => v.copy('a', 'b'), one: (_, b) => b },
    { name: 'scale', run: (v) => v.scale('a', 0.3), one: (a) => f(f(0.3) * a) },
    { name: 'axpy', run: (v) => v.axpy('a', -0.7, 'b'), one: (a, b) => f(a + f(f(-0.7) * b)) },
    { name: 'multiply', run: (v) => v.multiply('a', 'b'), one: (a, b) => f(a * b) },
    {
      name: 'shrink',
      run: (v) => v.shrink('a', 0.5),
      one: (a) => Math.sign(a) * Math.max(0, f(Math.abs(a) - 0.5)),
    },
  ]

  it.each(cases)('$name', ({ run, one }) => {
    const { vectors, a, b } = filled(size)
    run(vectors)
    expectSame(
      vectors.read('a'),
      a.map((value, i) => one(value, b[i])),
    )
    expectSame(vectors.read('b'), b)
  })

  it('dot and sumAbs in float64', () => {
    const { vectors, a, b } = filled(size)
    let [dot, sum, size2] = [0, 0, 0]
    a.forEach((value, i) => {
      dot += value * b[i]
      size2 += Math.abs(value * b[i])
      sum += Math.abs(value)
    })
    expect(Math.abs(vectors.dot('a', 'b') - dot)).toBeLessThanOrEqual(1e-12 * size2)
    expect(Math.abs(vectors.sumAbs('a') - sum)).toBeLessThanOrEqual(1e-12 * sum)
    expect(vectors.dot('a', 'b')).toBe(vectors.dot('b', 'a'))
  })

  it.each(CODECS)('accumulate of many payloads (%s) is their sum, rounded once', (codec) => {
    const vectors = new Vectors(size)
    vectors.create('sum')
    vectors.create('error')
    const payloads = Array.from({ length: size > RANGE_FLOATS ? 6 : 60 }, (_, i) =>
      encodeVector(codecs[codec], sample(size, i + 1)),
    )
    const expected = new Float64Array(size)
    for (const payload of payloads) {
      vectors.accumulate('sum', 'error', codec, payload, 1)
      decodeVector(codecs[codec], payload, size).forEach((value, i) => {
        expected[i] += value
      })
    }
    vectors.axpy('sum', 1, 'error')
    expectSame(vectors.read('sum'), Float32Array.from(expected))
  })

  it('accumulate multiplies by the weight', () => {
    const vectors = new Vectors(size)
    vectors.create('sum')
    vectors.create('error')
    const values = sample(size, 4)
    vectors.accumulate('sum', 'error', 'f32', encodeVector(codecs.f32, values), 0.3)
    expectSame(
      vectors.read('sum'),
      values.map((value) => f(f(0.3) * value)),
    )
    expect(vectors.read('error').every((value) => value === 0)).toBe(true)
  })

  it('come back from a checkpoint, also those that were not there', () => {
    const { vectors, a, b } = filled(size)
    const saved = vectors.views(['a', 'b']).map((view) => ({ ...view, values: view.values.slice() }))
    const fresh = new Vectors(size)
    fresh.restore(['a', 'b'], saved)
    expectSame(fresh.read('a'), a)
    expectSame(fresh.read('b'), b)
    expect(() => new Vectors(size).restore(['a', 'c'], saved)).toThrow('invariant: checkpoint lacks c, range 0')
  })
})

describe('names', () => {
  it('a vector that is not there is a broken promise', () => {
    const vectors = new Vectors(3)
    expect(() => vectors.dot('a', 'a')).toThrow('invariant: there is no vector a')
    expect(() => vectors.drop('a')).toThrow('invariant: there is no vector a to drop')
    expect(() => vectors.accumulate('a', 'a', 'f32', new Uint8Array(12), 1)).toThrow('invariant: there is no vector a')
  })

  it('what is dropped is used again, and everybody keeps its own', () => {
    const names = fc.constantFrom('a', 'b', 'c', 'd')
    const step = fc.record({ name: names, drop: fc.boolean(), value: fc.integer({ min: -100, max: 100 }) })
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const vectors = new Vectors(5)
        const model = new Map<string, number>()
        for (const { name, drop, value } of steps) {
          if (drop && model.delete(name)) vectors.drop(name)
          else if (!drop) {
            vectors.create(name, value)
            model.set(name, value)
          }
          expect(vectors.names.sort()).toEqual([...model.keys()].sort())
          for (const [other, of] of model) expect([...vectors.read(other)]).toEqual(Array(5).fill(of))
        }
        // At most as many as there were at once.
        expect(vectors.slices[0].pointers.size).toBeLessThanOrEqual(4)
      }),
    )
  })
})
