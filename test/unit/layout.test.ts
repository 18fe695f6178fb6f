/** Where each tensor lies in the flat vector, and what it begins at. */
import { describe, expect, test } from 'vitest'
import { initialParameters, layout, RANGE_FLOATS, ranges } from '../../shared/layout.ts'
import { buildModel } from '../../shared/models.ts'
import { movableSize } from '../support/movable-size.ts'

const zeros = { kind: 'zeros' } as const

describe('a layout', () => {
  test('lays tensors end to end in the order given', () => {
    const { slots, size } = layout([
      { name: 'a/kernel', shape: [2, 3, 4], init: zeros },
      { name: 'scalar', shape: [], init: zeros },
      { name: 'a/bias', shape: [5], init: zeros },
    ])
    expect(slots.map(({ name, offset, size }) => [name, offset, size])).toEqual([
      ['a/kernel', 0, 24],
      ['scalar', 24, 1],
      ['a/bias', 25, 5],
    ])
    expect(size).toBe(30)
  })

  test('is cut into ranges that cover it without gap or overlap', () => {
    expect(ranges(0)).toEqual([])
    expect(ranges(1)).toEqual([{ index: 0, from: 0, to: 1 }])
    expect(ranges(RANGE_FLOATS)).toEqual([{ index: 0, from: 0, to: RANGE_FLOATS }])
    expect(ranges(2 * RANGE_FLOATS + 1)).toEqual([
      { index: 0, from: 0, to: RANGE_FLOATS },
      { index: 1, from: RANGE_FLOATS, to: 2 * RANGE_FLOATS },
      { index: 2, from: 2 * RANGE_FLOATS, to: 2 * RANGE_FLOATS + 1 },
    ])
  })
})

describe('the first parameters', () => {
  const lenet = buildModel(
    { template: 'lenet', form: 'modern', activation: 'relu' },
    { inputShape: [28, 28, 1], classes: 10 },
    null,
  ).layout

  test('are zero biases, and kernels uniform within their limit', () => {
    const parameters = initialParameters(lenet, 1)
    expect(parameters.length).toBe(61706)
    for (const { name, offset, size, init } of lenet.slots) {
      const values = parameters.subarray(offset, offset + size)
      if (init.kind !== 'uniform') {
        expect(init.kind).toBe('zeros')
        expect(name).toMatch(/\/bias$/)
        expect(values.every((value) => value === 0)).toBe(true)
        continue
      }
      expect(name).toMatch(/\/kernel$/)
      expect(values.every((value) => Math.abs(value) <= Math.fround(init.limit))).toBe(true)
      // The moments of U(-limit, limit), each within 4 of its standard deviations.
      const mean = values.reduce((sum, value) => sum + value, 0) / size
      const square = values.reduce((sum, value) => sum + value * value, 0) / size
      const variance = init.limit ** 2 / 3
      expect(Math.abs(mean)).toBeLessThan(4 * Math.sqrt(variance / size))
      expect(Math.abs(square - variance)).toBeLessThan(4 * Math.sqrt((4 * init.limit ** 4) / 45 / size))
    }
  })

  test('have the limits of Glorot and Bengio', () => {
    const limits = lenet.slots.flatMap(({ init }) => (init.kind === 'uniform' ? [init.limit ** 2] : []))
    const fans = [
      [25, 150],
      [150, 400],
      [400, 120],
      [120, 84],
      [84, 10],
    ]
    expect(limits).toHaveLength(fans.length)
    fans.forEach(([fanIn, fanOut], i) => {
      expect(limits[i]).toBeCloseTo(6 / (fanIn + fanOut), 12)
    })
  })

  test('are the same bits for the same seed, and others for another', () => {
    const bits = (seed: number) => Buffer.from(initialParameters(lenet, seed).buffer)
    expect(Buffer.compare(bits(7), bits(7))).toBe(0)
    expect(Buffer.compare(bits(7), bits(8))).not.toBe(0)
    // The upper half of a seed counts too.
    expect(Buffer.compare(bits(7), bits(7 + 2 ** 32))).not.toBe(0)
  })

  test('are fixed for ever: a run that is replayed after an update of Crowdgrad begins where it began', () => {
    const parameters = initialParameters(lenet, 1)
    expect([...parameters.subarray(0, 3)]).toEqual([-0.07694170624017715, 0.04703698307275772, 0.03359468653798103])
  })

  test('can be normal', () => {
    const one = layout([{ name: 'a', shape: [100, 100], init: { kind: 'normal', sd: 0.1 } }])
    const values = initialParameters(one, 1)
    const moment = (power: number) => values.reduce((sum, value) => sum + value ** power, 0) / values.length
    // Each within 4 of its standard deviations, for 10,000 draws: 0.1/100, 0.01·√2/100, 1e-4·√96/100.
    expect(Math.abs(moment(1))).toBeLessThan(4e-3)
    expect(Math.abs(moment(2) - 0.01)).toBeLessThan(5.7e-4)
    expect(Math.abs(moment(4) - 3e-4)).toBeLessThan(4e-5)
  })

  test('outside a table of connections are zero, and move nowhere; inside they are what they would be without', () => {
    const init = { kind: 'uniform', limit: 1 } as const
    const shape = [2, 1, 3, 2]
    const table = layout([{ name: 'a', shape, init: { ...init, connections: [[0, 2], [1]] } }])
    const all = initialParameters(layout([{ name: 'a', shape, init }]), 1)
    const reads = [1, 0, 0, 1, 1, 0]
    expect([...initialParameters(table, 1)]).toEqual([...reads, ...reads].map((read, i) => (read ? all[i] : 0)))
    expect(movableSize(table)).toBe(6)
    expect(movableSize(lenet)).toBe(lenet.size)
  })

  test('of two tensors share no numbers', () => {
    const init = { kind: 'uniform', limit: 1 } as const
    const two = layout([
      { name: 'a', shape: [100], init },
      { name: 'b', shape: [100], init },
    ])
    expect(new Set(initialParameters(two, 1)).size).toBe(200)
  })
})
