/** A WASM heap that is full: an error, where tfjs' own would write over what lies at address 0, or beyond its end. */
import * as tf from '@tensorflow/tfjs-core'
import { afterAll, beforeAll, expect, it } from 'vitest'
import type { Engine } from '../../client/volunteer/compute/engine.ts'
import { openEngine } from '../../client/volunteer/compute/engines.ts'
import { heapOf } from '../../client/volunteer/compute/kernels/heap.ts'

let engine: Engine
beforeAll(async () => {
  engine = await openEngine('wasm')
  await tf.setBackend('wasm')
})
afterAll(() => engine.close())

/** A product of side² numbers is refused, and nothing was written over. */
function expectTooMany(side: number): void {
  const before = tf.ones([1000])
  const product = () => tf.tidy(() => tf.matMul(tf.ones([side, 1]), tf.ones([1, side])))
  expect(product).toThrow(/^wasm: no memory left for \d+ bytes$/)
  expect([...before.dataSync()].every((one) => one === 1)).toBe(true)
  before.dispose()
}

it.each([32_767, 32_768])('has no room for %d² numbers, ever', expectTooMany)

/** Of so many floats each; taken and not touched, so no page of them is there. */
const taking = (...sizes: number[]) => sizes.map((floats) => heapOf(tf.backend()).output([floats]))

it('has none left where malloc says so, and is none the worse for it', () => {
  const heap = heapOf(tf.backend())
  heap.scratch(1e6)
  const taken = taking(2 ** 29, 1e6, 4e8)
  expectTooMany(16_000)
  expect(() => heap.scratch(1e9)).toThrow(/^wasm: no memory left for 1000000000 bytes$/)
  // It may lie where the scratch memory was.
  const next = heap.output([2e5])
  const away = heap.scratch(1_000) - heap.address(next)
  expect(away < 0 || away >= 8e5).toBe(true)
  for (const block of [...taken, next]) heap.dispose(block)
  const product = tf.tidy(() => tf.matMul(tf.ones([100, 9]), tf.ones([9, 100])).dataSync())
  expect(product.every((nine) => nine === 9)).toBe(true)
})

it('is used no more where malloc gave what ends beyond it', () => {
  const taken = taking(2 ** 29)
  expectTooMany(25_000)
  for (const block of taken) heapOf(tf.backend()).dispose(block)
  expect(() => tf.ones([10])).toThrow(/^wasm: no memory left for 40 bytes$/)
})
