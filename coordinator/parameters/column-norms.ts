/**
 * Max-norm regularisation (Srivastava et al. 2014, §5.1): after a step, the vector of weights into a unit that is
 * longer than c is scaled back to c. A unit's weights are a column of its layer's kernel, which is stored row by row
 * and may be cut by ranges anywhere, so the norms are summed over all ranges first.
 */
import type { Layout } from '../../shared/layout.ts'
import { at, type Slice, type Vectors } from './vectors.ts'

interface Kernel {
  readonly from: number
  readonly to: number
  /** Units: the last dimension. */
  readonly columns: number
}

export class ColumnNorms {
  private readonly limitNorm: number
  private readonly kernels: readonly Kernel[]
  private readonly mostColumns: number
  /** A float64 for every column, in each slice's memory. */
  private readonly rooms = new WeakMap<Slice, number>()

  constructor({ slots }: Layout, limitNorm: number) {
    this.limitNorm = limitNorm
    this.kernels = slots
      .filter(({ name }) => name.endsWith('/kernel'))
      .map(({ offset, size, shape }) => ({ from: offset, to: offset + size, columns: shape[shape.length - 1] }))
    this.mostColumns = Math.max(0, ...this.kernels.map(({ columns }) => columns))
  }

  limit(vectors: Vectors, name: string): void {
    for (const kernel of this.kernels) {
      const factors = this.factors(vectors, name, kernel)
      if (factors !== null) this.each(vectors, name, kernel, 'multiplyEach', factors)
    }
  }

  /** What each column is to be multiplied by; null where none is too long. */
  private factors(vectors: Vectors, name: string, kernel: Kernel): Float64Array | null {
    const squares = new Float64Array(kernel.columns)
    this.each(vectors, name, kernel, 'addSquares', squares)
    let any = false
    for (let i = 0; i < squares.length; i++) {
      const norm = Math.sqrt(squares[i])
      any ||= norm > this.limitNorm
      squares[i] = norm > this.limitNorm ? this.limitNorm / norm : 1
    }
    return any ? squares : null
  }

  /**
   * Does it to the kernel's rows in order, slice by slice, with the columns' numbers: they come along from slice to
   * slice.
   */
  private each(
    vectors: Vectors,
    name: string,
    { from, to, columns }: Kernel,
    what: 'addSquares' | 'multiplyEach',
    perColumn: Float64Array,
  ): void {
    for (const slice of vectors.slices) {
      const first = Math.max(from, slice.range.from)
      const end = Math.min(to, slice.range.to)
      if (first >= end) continue
      const numbers = this.room(slice)
      slice.kernels.doubles(numbers, columns).set(perColumn)
      const weights = at(slice, name)
      for (let next = first; next < end; ) {
        const column = (next - from) % columns
        const count = Math.min(columns - column, end - next)
        slice.kernels[what](weights + 4 * (next - slice.range.from), count, numbers + 8 * column)
        next += count
      }
      perColumn.set(slice.kernels.doubles(numbers, columns))
    }
  }

  private room(slice: Slice): number {
    let pointer = this.rooms.get(slice)
    if (pointer === undefined) {
      pointer = slice.kernels.reserve(8 * this.mostColumns)
      this.rooms.set(slice, pointer)
    }
    return pointer
  }
}
