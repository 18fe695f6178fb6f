/**
 * The operator's side of the HTTP API, as shared/api.ts describes it: requests with the operator's token, downloads,
 * and the stream of live events (read through fetch, because EventSource cannot send a header).
 * An expected refusal comes back as a value; nothing here throws but an aborted signal and a broken stream.
 */
import type { ApiError, LiveEvent } from '../../../shared/api.ts'

export type ApiProblem = Omit<ApiError['error'], 'code'> & { code: ApiError['error']['code'] | 'unreachable' }
export type Answer<T> = { ok: true; value: T } | { ok: false; problem: ApiProblem }

export class Operator {
  readonly #token: string

  constructor(token: string) {
    this.#token = token
  }

  async get<T>(path: string): Promise<Answer<T>> {
    return this.#call('GET', path)
  }

  async post<T>(path: string, body?: unknown): Promise<Answer<T>> {
    return this.#call('POST', path, body)
  }

  /** A file's bytes: fetched with the token, which a plain link or an image cannot send. */
  async bytes(path: string): Promise<Answer<Blob>> {
    const answer = await this.#fetch(path, {})
    if (!answer.ok) return answer
    try {
      return { ok: true, value: await answer.value.blob() }
    } catch {
      return { ok: false, problem: UNREACHABLE }
    }
  }

  /** Hands a file to the browser under `name`. */
  async download(path: string, name: string): Promise<Answer<null>> {
    const answer = await this.bytes(path)
    if (!answer.ok) return answer
    const address = URL.createObjectURL(answer.value)
    const link = document.createElement('a')
    link.href = address
    link.download = name
    link.click()
    // The browser reads the address after this turn; a minute is ample and the memory is freed.
    setTimeout(() => URL.revokeObjectURL(address), 60_000)
    return { ok: true, value: null }
  }

  /** Opens the stream of live events; it ends when the connection does. */
  async events(signal: AbortSignal): Promise<Answer<AsyncIterable<LiveEvent>>> {
    const answer = await this.#fetch('/api/events', { signal, headers: { accept: 'text/event-stream' } })
    if (!answer.ok) return answer
    return { ok: true, value: readEvents(answer.value) }
  }

  async #call<T>(method: string, path: string, body?: unknown): Promise<Answer<T>> {
    const request: RequestInit =
      body === undefined
        ? { method }
        : { method, body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }
    const answer = await this.#fetch(path, request)
    if (!answer.ok) return answer
    try {
      return { ok: true, value: (await answer.value.json()) as T }
    } catch {
      return { ok: false, problem: UNREACHABLE }
    }
  }

  async #fetch(path: string, request: RequestInit): Promise<Answer<Response>> {
    let response: Response
    try {
      response = await fetch(path, {
        ...request,
        cache: 'no-store',
        headers: { ...request.headers, authorization: `Bearer ${this.#token}` },
      })
    } catch {
      return { ok: false, problem: UNREACHABLE }
    }
    if (response.ok) return { ok: true, value: response }
    return { ok: false, problem: await problemOf(response) }
  }
}

const UNREACHABLE: ApiProblem = {
  code: 'unreachable',
  message: 'The coordinator does not answer. Is it running, and is this device online?',
}

async function problemOf(response: Response): Promise<ApiProblem> {
  try {
    const { error } = (await response.json()) as ApiError
    if (typeof error?.message === 'string') return error
  } catch {
    // A proxy in between may answer in HTML; its status is all there is to tell.
  }
  if (response.status === 401) return { code: 'unauthorized', message: 'The coordinator refused this token.' }
  return { code: 'internal', message: `The coordinator answered ${response.status} ${response.statusText}.` }
}

/** The coordinator says something every 15 s; after three times that the stream counts as ended. */
const SILENCE_MS = 45_000

async function* readEvents(response: Response): AsyncGenerator<LiveEvent> {
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader()
  let rest = ''
  for (;;) {
    // A connection that died without a word (a laptop that slept) would otherwise be believed for ever.
    const silence = setTimeout(() => void reader.cancel(), SILENCE_MS)
    const { done, value } = await reader.read().finally(() => clearTimeout(silence))
    if (done) return
    const lines = (rest + value).split(/\r?\n/)
    rest = lines.pop()!
    // Each event is one data: line; comments and blank lines only keep the connection alive.
    for (const line of lines) {
      if (line.startsWith('data:')) yield JSON.parse(line.slice(5)) as LiveEvent
    }
  }
}
