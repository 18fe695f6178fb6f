/**
 * A run's pictures as addresses that an image can show: fetched with the token, which an image cannot send, and kept as
 * long as the run is looked at. A run that is tested every moment is not fetched every moment.
 */
import { type Signal, signal } from '@preact/signals'
import type { PictureEntry } from '../../../shared/api.ts'
import type { ApiProblem, Operator } from './operator.ts'

interface Shot extends PictureEntry {
  /** Of the picture's bytes in this page. */
  readonly address: string
}

/** Drawing costs the coordinator some of its time, so there is a rest between two fetches. */
const REST_MS = 4_000

export class Album {
  /** null until the first answer. */
  readonly shots: Signal<readonly Shot[] | null> = signal(null)
  readonly problem: Signal<ApiProblem | null> = signal(null)
  readonly #operator: Operator
  readonly #path: string
  #wanted = false
  #working = false
  #closed = false

  constructor(operator: Operator, run: string) {
    this.#operator = operator
    this.#path = `/api/runs/${encodeURIComponent(run)}/pictures`
  }

  /** There is something new to be seen. */
  refresh() {
    this.#wanted = true
    if (!this.#working) void this.#work()
  }

  close() {
    this.#closed = true
    this.#show([])
  }

  async #work() {
    this.#working = true
    while (this.#wanted && !this.#closed) {
      this.#wanted = false
      await this.#fetch()
      await new Promise((resolve) => setTimeout(resolve, REST_MS))
    }
    this.#working = false
  }

  async #fetch() {
    const list = await this.#operator.get<{ pictures: PictureEntry[] }>(this.#path)
    if (!list.ok) {
      this.problem.value = list.problem
      return
    }
    const shots: Shot[] = []
    for (const entry of list.value.pictures) {
      const bytes = await this.#operator.bytes(`${this.#path}/${entry.name}.png`)
      // One that is gone by now is left out; the next test brings a new list.
      if (bytes.ok) shots.push({ ...entry, address: URL.createObjectURL(bytes.value) })
    }
    this.problem.value = null
    if (this.#closed) for (const { address } of shots) URL.revokeObjectURL(address)
    else this.#show(shots)
  }

  #show(shots: readonly Shot[]) {
    const before = this.shots.value ?? []
    this.shots.value = shots
    for (const { address } of before) URL.revokeObjectURL(address)
  }
}
