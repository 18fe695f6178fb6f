/**
 * What a page and the worker that computes for it say to each other. The page decides when (a person clicked);
 * the worker decides everything else and tells how it goes.
 *
 *     page                       worker
 *     start   where, who, what ─► connects and computes; sends a status at every change, at most a few a second
 *     stop                     ─► gives its lease back, closes the connection, sends a last status `stopped`
 *
 * A worker is started at most once: to start again the page makes a new one. The page ends it after `stopped` or
 * `failed`, or shortly after `stop` when no last status comes. Counts run from this worker's start.
 */
import type { BackendName } from '../../shared/backends.ts'
import type { Progress } from '../../shared/protocol.ts'

export interface StartMessage {
  type: 'start'
  /** The coordinator's origin: "https://train.example.org". */
  address: string
  /** The identity that an earlier hello gave, so that a volunteer that comes back is the same one. */
  token: string | null
  /** Use this backend and no other; null lets the worker choose. */
  backend: BackendName | null
  /** Work on this run; null lets the coordinator choose. */
  run: string | null
}

export interface StopMessage {
  type: 'stop'
}

export type PageMessage = StartMessage | StopMessage

/**
 * starting: loading and testing a backend · connecting: first connection · working: computing a lease ·
 * waiting: connected, no work now · reconnecting: the connection was lost, another is tried ·
 * stopped: as asked · failed: cannot go on without a person (no backend, page too old, refused for good)
 */
export type VolunteerState = 'starting' | 'connecting' | 'working' | 'waiting' | 'reconnecting' | 'stopped' | 'failed'

export interface VolunteerStatus {
  state: VolunteerState
  /** Why, for a person, where the state alone does not say it: "no run is open right now". */
  reason: string | null
  backend: BackendName | null
  /** For people: "WebGPU (Apple M2)". */
  device: string | null
  /** Examples computed in leases that were accepted. */
  examples: number
  updatesAccepted: number
  updatesRefused: number
  /** Speed at work: computing, fetching and sending, but not waiting for work. */
  examplesPerSecond: number | null
  progress: Progress | null
  /** The identity to keep and to start with next time. */
  token: string | null
}

export interface StatusMessage {
  type: 'status'
  status: VolunteerStatus
}

export type WorkerMessage = StatusMessage
