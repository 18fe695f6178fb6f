/**
 * Time as the volunteer sees it: an argument, so that a test can turn it by hand.
 *
 * `breathe` gives the event loop one turn (sockets are read, timers fire) without the 4 ms that browsers add to nested
 * timers: setImmediate in Node, a message to ourselves in a worker.
 */

export interface Clock {
  /** Milliseconds, monotonic. */
  now(): number
  /** Resolves after `ms`, or rejects with the signal's reason as soon as it is aborted. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>
  breathe(): Promise<void>
}

export const systemClock: Clock = {
  now: () => performance.now(),
  sleep: (ms, signal) =>
    new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason)
      const aborted = () => {
        clearTimeout(timer)
        reject(signal?.reason)
      }
      const timer = setTimeout(() => {
        signal?.removeEventListener('abort', aborted)
        resolve()
      }, ms)
      signal?.addEventListener('abort', aborted, { once: true })
    }),
  breathe: typeof setImmediate === 'function' ? () => new Promise((resolve) => setImmediate(resolve)) : messageTurn(),
}

function messageTurn(): () => Promise<void> {
  const { port1, port2 } = new MessageChannel()
  const waiting: (() => void)[] = []
  port1.onmessage = () => waiting.shift()?.()
  return () =>
    new Promise((resolve) => {
      waiting.push(resolve)
      port2.postMessage(null)
    })
}
