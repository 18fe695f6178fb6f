/**
 * A person's contribution from this tab: the one place where a page starts and stops the worker that computes.
 *
 * Promises: nothing is loaded, computed or connected before `start`; `stop` is believed at once (the page says
 * stopped, the worker gets a moment to give its lease back, then it is ended); leaving the page stops it too.
 * The worker counts from its own start, so the counts of earlier workers of this tab are carried along here.
 */
import { type Signal, signal } from '@preact/signals'
import { BACKENDS } from '../../shared/backends.ts'
import type { PageMessage, VolunteerStatus, WorkerMessage } from '../volunteer/worker-messages.ts'

/** What the address of the page may ask for: `?backend=wasm`, `?run=<id>`. */
interface Wish {
  /** As written: an address may ask for a backend that does not exist. */
  backend: string | null
  run: string | null
}

export interface Counts {
  examples: number
  updatesAccepted: number
  updatesRefused: number
}

export interface Contribution {
  /** Null before the first start. */
  readonly status: Signal<VolunteerStatus | null>
  /** Since the page was opened, over all starts. */
  readonly counts: Signal<Counts>
  /** Whether this browser remembers an identity. */
  readonly remembered: Signal<boolean>
  start(): void
  stop(): void
  /** Forgets the identity; refused while a contribution runs, which would bring it back. */
  forget(): void
}

/** The worker has so long to give its lease back after a stop; the coordinator's deadline covers the rest. */
const FAREWELL_MS = 2000
const IDENTITY = 'crowdgrad.identity'

export function wishOf(search: string): Wish {
  const query = new URLSearchParams(search)
  return { backend: query.get('backend') || null, run: query.get('run') || null }
}

export function isRunning(status: VolunteerStatus | null): boolean {
  return status !== null && status.state !== 'stopped' && status.state !== 'failed'
}

export function openContribution(wish: Wish): Contribution {
  const status = signal<VolunteerStatus | null>(null)
  const counts = signal<Counts>({ examples: 0, updatesAccepted: 0, updatesRefused: 0 })
  const remembered = signal(readIdentity() !== null)
  let worker: Worker | null = null
  let before: Counts = counts.value

  const show = (next: VolunteerStatus) => {
    status.value = next
    counts.value = {
      examples: before.examples + next.examples,
      updatesAccepted: before.updatesAccepted + next.updatesAccepted,
      updatesRefused: before.updatesRefused + next.updatesRefused,
    }
    if (next.token !== null && next.token !== readIdentity()) {
      remembered.value = writeIdentity(next.token)
    }
  }

  const end = (ended: Worker) => {
    ended.terminate()
    if (worker === ended) worker = null
  }

  function start() {
    if (isRunning(status.value)) return
    if (worker !== null) end(worker)
    before = counts.value
    const backend = BACKENDS.find((name) => name === wish.backend) ?? null
    if (backend === null && wish.backend !== null) {
      const reason = `there is no backend “${wish.backend}”: the address may ask for ${BACKENDS.join(', ')} or none`
      return show({ ...BLANK, state: 'failed', reason })
    }
    show({ ...BLANK, state: 'starting' })
    const started = new Worker(new URL('../volunteer/worker.ts', import.meta.url), { type: 'module' })
    worker = started
    started.onmessage = ({ data }: MessageEvent<WorkerMessage>) => {
      if (worker !== started || data.type !== 'status') return
      const over = !isRunning(data.status)
      // A stop has been shown already: of what is still under way, only the last counts matter.
      if (isRunning(status.value) || over) show(data.status)
      if (over) end(started)
    }
    started.onerror = (event) => {
      event.preventDefault()
      if (worker !== started) return
      // Without a message the program did not load; with one it broke.
      const cause = event.message?.replace(/^Uncaught (\w*Error: )?/, '')
      const reason = cause ? `the program stopped: ${cause}` : 'the program could not be loaded; check the connection'
      if (isRunning(status.value)) show({ ...(status.value ?? BLANK), state: 'failed', reason })
      end(started)
    }
    send(started, {
      type: 'start',
      address: location.origin,
      token: readIdentity(),
      backend,
      run: wish.run,
    })
  }

  function stop() {
    if (worker === null || status.value === null || !isRunning(status.value)) return
    const stopping = worker
    send(stopping, { type: 'stop' })
    show({ ...status.value, state: 'stopped', reason: null, examplesPerSecond: null })
    setTimeout(() => end(stopping), FAREWELL_MS)
  }

  function forget() {
    if (isRunning(status.value)) return
    if (status.value !== null) status.value = { ...status.value, token: null }
    writeIdentity(null)
    remembered.value = false
  }

  addEventListener('pagehide', stop)
  return { status, counts, remembered, start, stop, forget }
}

const BLANK: VolunteerStatus = {
  state: 'stopped',
  reason: null,
  backend: null,
  device: null,
  examples: 0,
  updatesAccepted: 0,
  updatesRefused: 0,
  examplesPerSecond: null,
  progress: null,
  token: null,
}

function send(worker: Worker, message: PageMessage) {
  worker.postMessage(message)
}

// A frame on somebody's site may be refused storage altogether; it is then a new volunteer every time.

function readIdentity(): string | null {
  try {
    return localStorage.getItem(IDENTITY)
  } catch {
    return null
  }
}

/** Whether this browser holds an identity afterwards. */
function writeIdentity(token: string | null): boolean {
  try {
    if (token === null) localStorage.removeItem(IDENTITY)
    else localStorage.setItem(IDENTITY, token)
    return token !== null
  } catch {
    return false
  }
}
