/**
 * A bounded table of what was used last: when the weights add up to more than the limit, the entries unused for longest
 * go. The newest entry always stays, however heavy it is.
 */
export class Recent<Key, Value> {
  private readonly limit: number
  private readonly weigh: (value: Value) => number
  private readonly dropped: (value: Value) => void
  /** A Map keeps its order of insertion: first is unused for longest. */
  private readonly entries = new Map<Key, Value>()
  private weight = 0

  constructor(limit: number, weigh: (value: Value) => number, dropped: (value: Value) => void = () => {}) {
    this.limit = limit
    this.weigh = weigh
    this.dropped = dropped
  }

  get(key: Key): Value | undefined {
    const value = this.entries.get(key)
    if (value === undefined) return undefined
    this.entries.delete(key)
    this.entries.set(key, value)
    return value
  }

  set(key: Key, value: Value): void {
    this.delete(key)
    this.entries.set(key, value)
    this.weight += this.weigh(value)
    for (const oldest of this.entries.keys()) {
      if (this.weight <= this.limit || this.entries.size === 1) break
      this.delete(oldest)
    }
  }

  clear(): void {
    for (const key of [...this.entries.keys()]) this.delete(key)
  }

  private delete(key: Key): void {
    const value = this.entries.get(key)
    if (value === undefined) return
    this.entries.delete(key)
    this.weight -= this.weigh(value)
    this.dropped(value)
  }
}
