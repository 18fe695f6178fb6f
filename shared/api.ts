/**
 * What the operator's HTTP API answers, as types that the coordinator writes and the console reads.
 * Every route but /healthz, /metrics, /blobs and the pages wants `Authorization: Bearer <operator token>`.
 *
 *     POST /api/runs                          RunSpec → RunDetail (201); ApiError 400 names the fields
 *     GET  /api/runs                          { runs: RunDetail[] }, newest first
 *     GET  /api/runs/:id                      RunDetail
 *     POST /api/runs/:id/pause|resume|stop    RunDetail
 *     GET  /api/runs/:id/metrics              RunMetrics
 *     GET  /api/runs/:id/model.safetensors    the parameters, safetensors layout
 *     GET  /api/runs/:id/model.json           tfjs LayersModel
 *     GET  /api/runs/:id/model.weights.bin    its weights
 *     GET  /api/runs/:id/encoder.*, decoder.* the same three of either half of an autoencoder or a stack of RBMs
 *     GET  /api/runs/:id/machines.safetensors a stack of RBMs with all its biases and label units
 *     GET  /api/runs/:id/pictures             { pictures: PictureEntry[] }: what can be seen of it as it stands
 *     GET  /api/runs/:id/pictures/<name>.png  one of them, drawn now; ApiError 404 names those there are
 *     GET  /api/events                        server-sent events, each `data:` line one LiveEvent
 */
import type { BackendName } from './backends.ts'
import type { RunSpec } from './run-spec.ts'

const RUN_STATES = ['draft', 'running', 'paused', 'finished', 'failed'] as const
export type RunState = (typeof RUN_STATES)[number]

export interface RunDetail {
  run: string
  name: string
  state: RunState
  /** Why it failed, was paused or cannot be resumed, where that is not the operator's doing. */
  reason: string | null
  /** The phase of the run; `train` where there is one only. `stages` are all, in order, with their planned epochs. */
  stage: string
  stages: { name: string; epochs: number }[]
  /** Of the stage: passes over the training examples so far, with fraction (2.37), or iterations. */
  epoch: number
  /** Passes, or iterations, planned. */
  epochs: number
  /** Of all stages' planned work, the share that is done: 0..1. */
  progress: number
  /** null where nothing is classified. */
  testAccuracy: number | null
  /** Of the last test: cross-entropy, or an RBM's reconstruction error. */
  testLoss: number | null
  /** Squared error (autoencoder) or free energy (RBM). */
  testMeasure: number | null
  /** Mean loss of the examples of the last few updates. */
  trainLoss: number | null
  versions: number
  /** Examples whose update was accepted. */
  examples: number
  updatesAccepted: number
  /** Like bytesDown counted since the coordinator was started: what was not taken is not journalled. */
  updatesRefused: number
  meanStaleness: number
  bytesUp: number
  bytesDown: number
  /** Seconds spent in state running. */
  seconds: number
  /** Accepted in about the last ten of those seconds; `examples / seconds` is the mean. */
  examplesPerSecond: number
  createdAt: string
  /** Address of the tfjs model on this coordinator; `npm run train --json` gives a path on the disk instead. */
  modelPath: string
  parameters: number
  volunteers: VolunteerDetail[]
  spec: RunSpec
}

export interface VolunteerDetail {
  volunteer: string
  backend: BackendName
  device: string
  trusted: boolean
  connected: boolean
  /** Leases it holds now. */
  leases: number
  examples: number
  updatesAccepted: number
  updatesRefused: number
  /** Its measured speed while computing. */
  examplesPerSecond: number | null
  lastSeen: string
}

/** One point of the training curve: what was accepted since the point before it. */
export interface TrainPoint {
  /** The run's stage it belongs to. */
  stage: string
  seconds: number
  examples: number
  epoch: number
  loss: number
  /** Share of those examples that were classified right, 0..1. */
  accuracy: number
  examplesPerSecond: number
  staleness: number
  volunteers: number
}

export interface TestPoint {
  seconds: number
  examples: number
  epoch: number
  version: number
  /** The run's stage it belongs to. */
  stage: string
  loss: number
  /** 0 where nothing is classified. */
  accuracy: number
  /**
   * Mean of the objective's second measure: squared error (autoencoder), free energy (RBM); null where there is none.
   */
  measure: number | null
  /**
   * Of an RBM, the mean free energy of as many training examples: their difference is the gap that tells over-fitting.
   */
  trainMeasure: number | null
}

/** One iteration of gradient-descent or sandblaster. */
export interface IterationPoint {
  iteration: number
  /** Mean loss with regularisation: of gradient-descent before the iteration's step, of sandblaster after it. */
  loss: number
  /** ‖gradient‖, the length of the step taken, and passes over the examples that it took; where they are known. */
  gradientNorm?: number
  step?: number
  passes?: number
}

export interface RunMetrics {
  run: string
  /** Of strategies that iterate. */
  iterations: IterationPoint[]
  train: TrainPoint[]
  test: TestPoint[]
}

/** A picture of the run: filters, reconstructions, confusion, mistakes, filters-rbm-<n>. */
export interface PictureEntry {
  name: string
  title: string
  /** A sentence that says what is seen. */
  words: string
}

/** A run each second and whenever it moves; points as they come. */
export type LiveEvent =
  | { type: 'run'; run: RunDetail }
  | { type: 'train'; run: string; point: TrainPoint }
  | { type: 'test'; run: string; point: TestPoint }

export interface ApiError {
  error: {
    code:
      | 'unauthorized'
      | 'bad-spec'
      | 'bad-request'
      | 'not-found'
      | 'wrong-state'
      | 'rate-limited'
      | 'storage-full'
      | 'storage-failed'
      | 'internal'
    message: string
    /** With bad-spec: which fields, and what was expected of each. */
    problems?: { field: string; message: string }[]
  }
}
