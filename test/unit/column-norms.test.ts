/**
 * Max-norm (Srivastava et al. 2014, §5.1) against plain loops over whole matrices: the same bits, wherever ranges cut
 * them.
 */
import { test } from 'vitest'
import { ColumnNorms } from '../../coordinator/parameters/column-norms.ts'
import { Vectors } from '../../coordinator/parameters/vectors.ts'
import { layout, RANGE_FLOATS } from '../../shared/layout.ts'
import { expectSame, f, sample } from '../support/kernel-workbench.ts'

/**
 * A matrix that ends in the second range, a row of which is cut; a bias, which is not held back; one that is short
 * enough.
 */
const MATRICES = [
  { name: 'a/kernel', shape: [Math.ceil(RANGE_FLOATS / 500) + 3, 500] },
  { name: 'a/bias', shape: [500] },
  { name: 'b/kernel', shape: [7, 3, 5, 11] },
  { name: 'c/kernel', shape: [9, 3] },
]
const LAYOUT = layout(MATRICES.map((matrix) => ({ ...matrix, init: { kind: 'zeros' as const } })))

/** In place. */
function limited(values: Float32Array, columns: number, longest: number): void {
  for (let column = 0; column < columns; column++) {
    let squares = 0
    for (let i = column; i < values.length; i += columns) squares += values[i] * values[i]
    const norm = Math.sqrt(squares)
    if (norm <= longest) continue
    for (let i = column; i < values.length; i += columns) values[i] = f(values[i] * (longest / norm))
  }
}

test.each([0.5, 30, 1e9])('a unit whose weights are longer than %f is scaled back, and no other [V3]', (longest) => {
  const values = sample(LAYOUT.size, 7).map((value, i) => value * (1 + (i % 5)))
  values.fill(0, LAYOUT.slots[3].offset)
  const vectors = new Vectors(LAYOUT.size)
  vectors.create('w')
  vectors.write('w', values)
  const norms = new ColumnNorms(LAYOUT, longest)
  for (let times = 0; times < 2; times++) {
    norms.limit(vectors, 'w')
    for (const { name, offset, size, shape } of LAYOUT.slots) {
      if (name.endsWith('/kernel')) limited(values.subarray(offset, offset + size), shape[shape.length - 1], longest)
    }
    expectSame(vectors.read('w'), values)
  }
})
