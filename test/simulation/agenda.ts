/** Virtual time: what is to happen, in order; at one instant in the order it was put down. A binary heap. */

interface Item {
  readonly at: number
  readonly order: number
  readonly act: () => void
}

const before = (a: Item, b: Item) => a.at < b.at || (a.at === b.at && a.order < b.order)

export class Agenda {
  now: number
  private readonly heap: Item[] = []
  private order = 0

  constructor(now: number) {
    this.now = now
  }

  after(delayMs: number, act: () => void): void {
    const item = { at: this.now + Math.max(0, delayMs), order: this.order++, act }
    const { heap } = this
    let i = heap.push(item) - 1
    while (i > 0) {
      const parent = (i - 1) >> 1
      if (!before(item, heap[parent])) break
      heap[i] = heap[parent]
      i = parent
    }
    heap[i] = item
  }

  /** Moves time to the next item and takes it out; null when there is none. */
  next(): (() => void) | null {
    const { heap } = this
    const first = heap[0]
    const last = heap.pop()
    if (last === undefined) return null
    if (heap.length > 0) {
      let i = 0
      for (;;) {
        let child = 2 * i + 1
        if (child >= heap.length) break
        if (child + 1 < heap.length && before(heap[child + 1], heap[child])) child++
        if (!before(heap[child], last)) break
        heap[i] = heap[child]
        i = child
      }
      heap[i] = last
    }
    this.now = first.at
    return first.act
  }
}
