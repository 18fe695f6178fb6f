/**
 * Max-norm regularisation (Srivastava et al. 2014, §5.1): after a step, the vector of weights into a unit that is longer
 * than c is scaled back to c. A unit's weights are a column of its layer's kernel, which is stored row by row and
 * may be cut by ranges anywhere, so the norms are summed over all ranges first.
 */
import type { Layout } from '../../shared/layout.ts'
import { at, type Vectors } from './vectors.ts'

interface Kernel {
  readonly from: number
  readonly to: number
  /** Units: the last dimension. */
  readonly columns: number
}

export class ColumnNorms {
  private readonly limitNorm: number
  private readonly kernels: readonly Kernel[]

  constructor({ slots }: Layout, limitNorm: number) {
    this.limitNorm = limitNorm
    this.kernels = slots
      .filter(({ name }) => name.endsWith('/kernel'))
      .map(({ offset, size, shape }) => ({ from: offset, to: offset + size, columns: shape[shape.length - 1] }))
  }

  limit(vectors: Vectors, name: string): void {
    for (const kernel of this.kernels) {
      const factors = this.factors(vectors, name, kernel)
      if (factors !== null) each(vectors, name, kernel, (weights, column) => scale(weights, column, factors))
    }
  }

  /** What each column is to be multiplied by; null where none is too long. */
  private factors(vectors: Vectors, name: string, kernel: Kernel): Float64Array | null {
    const squares = new Float64Array(kernel.columns)
    each(vectors, name, kernel, (weights, column) => addSquares(weights, column, squares))
    let any = false
    for (let i = 0; i < squares.length; i++) {
      const norm = Math.sqrt(squares[i])
      any ||= norm > this.limitNorm
      squares[i] = norm > this.limitNorm ? this.limitNorm / norm : 1
    }
    return any ? squares : null
  }
}

/** The kernel's pieces, range by range, and which column each begins with. */
function each(
  vectors: Vectors,
  name: string,
  { from, to, columns }: Kernel,
  visit: (weights: Float32Array, firstColumn: number) => void,
): void {
  for (const slice of vectors.slices) {
    const first = Math.max(from, slice.range.from)
    const end = Math.min(to, slice.range.to)
    if (first >= end) continue
    const weights = slice.kernels.floats(at(slice, name) + 4 * (first - slice.range.from), end - first)
    visit(weights, (first - from) % columns)
  }
}

function addSquares(weights: Float32Array, firstColumn: number, squares: Float64Array): void {
  for (let i = 0, column = firstColumn; i < weights.length; i++) {
    squares[column] += weights[i] * weights[i]
    if (++column === squares.length) column = 0
  }
}

function scale(weights: Float32Array, firstColumn: number, factors: Float64Array): void {
  for (let i = 0, column = firstColumn; i < weights.length; i++) {
    weights[i] *= factors[column]
    if (++column === factors.length) column = 0
  }
}
