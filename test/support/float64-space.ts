/** Named vectors of float64 in plain loops: what the optimiser is judged on without float32's rounding. */
import type { VectorSpace } from '../../coordinator/strategies/lbfgs.ts'

export class Float64Space implements VectorSpace {
  readonly size: number
  readonly vectors = new Map<string, Float64Array>()

  constructor(size: number) {
    this.size = size
  }

  at(name: string): Float64Array {
    const vector = this.vectors.get(name)
    if (vector === undefined) throw new Error(`there is no vector ${name}`)
    return vector
  }

  has(name: string): boolean {
    return this.vectors.has(name)
  }

  create(name: string): void {
    this.vectors.set(name, new Float64Array(this.size))
  }

  copy(target: string, source: string): void {
    this.at(target).set(this.at(source))
  }

  scale(target: string, a: number): void {
    const vector = this.at(target)
    for (let i = 0; i < vector.length; i++) vector[i] *= a
  }

  axpy(target: string, a: number, source: string): void {
    const [to, from] = [this.at(target), this.at(source)]
    for (let i = 0; i < to.length; i++) to[i] += a * from[i]
  }

  dot(a: string, b: string): number {
    const [x, y] = [this.at(a), this.at(b)]
    return x.reduce((sum, value, i) => sum + value * y[i], 0)
  }
}
