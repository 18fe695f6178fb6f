/**
 * How a contribution is told to a stranger: every sentence about its state, backend, numbers and the model, for
 * the contribute page and the embedded card alike. No jargon, and always the reason when nothing happens.
 */
import type { BackendName } from '../../shared/backends.ts'
import type { Progress } from '../../shared/protocol.ts'
import type { VolunteerStatus } from '../volunteer/worker-messages.ts'
import type { Counts } from './contribution.ts'

/** How it stands at a glance; the stylesheet has a colour for each. */
type Mood = 'off' | 'busy' | 'working' | 'waiting' | 'trouble' | 'finished'

export interface Telling {
  mood: Mood
  headline: string
  detail: string
}

export const PURPOSE = 'This tab will help train a neural network that reads handwritten digits.'
const CONSENT = 'Nothing runs before you press Start. Stop at any time with one click.'

const BACKEND_WORDS: Record<BackendName, string> = {
  webgpu: 'your graphics chip (WebGPU)',
  webgl: 'your graphics chip (WebGL)',
  wasm: 'your processor (WebAssembly)',
  cpu: 'your processor (plain JavaScript)',
}

const number = new Intl.NumberFormat('en')
const short = new Intl.NumberFormat('en', { notation: 'compact', maximumSignificantDigits: 3 })

/** 12,345; from ten million on 12.3M, which fits its tile. */
export function count(value: number): string {
  return value < 10_000_000 ? number.format(Math.round(value)) : short.format(value)
}

export function tell(status: VolunteerStatus | null, counts: Counts): Telling {
  if (status === null) return { mood: 'off', headline: 'Ready when you are', detail: CONSENT }
  const { state, progress, backend } = status
  const reason = status.reason === null ? null : sentence(status.reason)
  const on = backend === null ? 'your device' : BACKEND_WORDS[backend]
  switch (state) {
    case 'starting':
      return { mood: 'busy', headline: 'Getting ready', detail: reason ?? `Loading the program and trying out ${on}.` }
    case 'connecting':
      return { mood: 'busy', headline: 'Connecting', detail: reason ?? 'Asking the coordinator for work.' }
    case 'working':
      return { mood: 'working', headline: 'Helping right now', detail: `Computing on ${on}.` }
    case 'waiting':
      return tellIdle(progress, reason)
    case 'reconnecting':
      return {
        mood: 'waiting',
        headline: 'Reconnecting',
        detail: `${reason ?? 'The connection was lost.'} It keeps trying by itself; there is nothing you need to do.`,
      }
    case 'stopped':
      return {
        mood: progress?.state === 'finished' ? 'finished' : 'off',
        headline: 'Stopped',
        detail: thanks(reason, counts),
      }
    case 'failed':
      return { mood: 'trouble', headline: 'This did not work', detail: trouble(status.reason) }
  }
}

/** Connected, yet nothing to compute: the run's own state explains it best, else the coordinator's reason. */
function tellIdle(progress: Progress | null, reason: string | null): Telling {
  switch (progress?.state) {
    case 'finished':
      return {
        mood: 'finished',
        headline: 'Training is finished',
        detail: 'Thank you: the work is done. Leave this page open if you want to help the next training too.',
      }
    case 'paused':
      return {
        mood: 'waiting',
        headline: 'Paused by the operator',
        detail: 'The people who run this training have paused it. It goes on here by itself when they resume.',
      }
    case 'failed':
      return {
        mood: 'waiting',
        headline: 'The training has halted',
        detail: 'It ended without a result, and not because of your device. The next training begins here by itself.',
      }
    default:
      // Without a reason nobody said that there is none: the model and the examples are being downloaded.
      return reason === null
        ? { mood: 'busy', headline: 'Fetching work', detail: 'The model and the next examples are on their way.' }
        : { mood: 'waiting', headline: 'Waiting for work', detail: reason }
  }
}

/** A compute device's own words begin with its name: "webgpu: navigator.gpu has no adapter". */
function trouble(reason: string | null): string {
  if (reason === null) return 'Something went wrong. Try again.'
  const [backend, ...cause] = reason.split(': ')
  if (cause.length === 0 || !Object.hasOwn(BACKEND_WORDS, backend)) return sentence(reason)
  return sentence(`this browser cannot compute on ${BACKEND_WORDS[backend as BackendName]}: ${cause.join(': ')}`)
}

function thanks(reason: string | null, counts: Counts): string {
  const quiet = reason ?? 'Nothing is running on your device any more.'
  if (counts.examples === 0) return quiet
  return `${quiet} Thank you for ${count(counts.examples)} examples.`
}

/** What the accuracy means in examples: 97 of 100, and from 99 % on 994 of 1,000. Never rounded up. */
export function right(accuracy: number): string {
  // 0.29 * 100 is 28.999…: the tiny push keeps such a value on its own side.
  const of = accuracy >= 0.99 ? 1000 : 100
  return `${count(Math.floor(accuracy * of + 1e-9))} of ${count(of)}`
}

export function others(volunteers: number): string {
  const rest = Math.max(0, volunteers - 1)
  if (rest === 0) return 'You are the only one helping right now'
  return rest === 1 ? 'One other device is helping' : `${count(rest)} other devices are helping`
}

/** Passes begun, of those planned. */
export function passes({ epoch, epochs }: Progress): string {
  return `Pass ${Math.min(Math.floor(epoch) + 1, epochs)} of ${count(epochs)}`
}

export function speed(examplesPerSecond: number | null): string {
  if (examplesPerSecond === null) return '–'
  return examplesPerSecond < 10 ? examplesPerSecond.toFixed(1) : count(examplesPerSecond)
}

function sentence(text: string): string {
  const trimmed = text.trim()
  return trimmed.charAt(0).toUpperCase() + trimmed.slice(1) + (/[.!?…]$/.test(trimmed) ? '' : '.')
}
