/**
 * Named vectors of float64 in plain loops: what the optimiser is judged on without float32's rounding. Or of float32,
 * rounded after every operation and with sums in float64, as a parameter store's are.
 */
import type { VectorSpace } from '../../coordinator/strategies/lbfgs.ts'

export class Float64Space implements VectorSpace {
  readonly size: number
  readonly vectors = new Map<string, Float64Array>()
  private readonly rounded: boolean

  constructor(size: number, { rounded = false } = {}) {
    this.size = size
    this.rounded = rounded
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
    for (let i = 0; i < vector.length; i++) vector[i] *= this.rounded ? Math.fround(a) : a
    this.round(target)
  }

  axpy(target: string, a: number, source: string): void {
    const [to, from] = [this.at(target), this.at(source)]
    for (let i = 0; i < to.length; i++) to[i] += this.rounded ? Math.fround(Math.fround(a) * from[i]) : a * from[i]
    this.round(target)
  }

  /** To float32, where these vectors are. */
  round(target: string): void {
    if (this.rounded) this.at(target).set(Float32Array.from(this.at(target)))
  }

  dot(a: string, b: string): number {
    const [x, y] = [this.at(a), this.at(b)]
    return x.reduce((sum, value, i) => sum + value * y[i], 0)
  }
}
