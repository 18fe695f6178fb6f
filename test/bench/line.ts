/** A line of so many megabits a second and so many milliseconds each way, to measure with. */
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'

interface LineSpec {
  readonly megabits: number
  readonly delayMs: number
}

/**
 * Where to connect to instead of `url`, on this machine: what goes in comes out later, and not faster than the line is.
 */
export async function openLine(url: string, spec: LineSpec): Promise<{ url: string; close(): void }> {
  const port = Number(new URL(url).port)
  const server = createServer((near) => {
    const far = connect(port, '127.0.0.1')
    slowly(near, far, spec)
    slowly(far, near, spec)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, close: () => server.close() }
}

function slowly(from: Socket, to: Socket, { megabits, delayMs }: LineSpec): void {
  let freeAt = 0
  /** In order: timers of two lengths may fire in another one. */
  const underWay: Buffer[] = []
  from.setNoDelay(true)
  from.on('data', (bytes) => {
    const now = performance.now()
    freeAt = Math.max(now, freeAt) + (8 * bytes.length) / (1000 * megabits)
    underWay.push(bytes)
    setTimeout(() => to.writable && to.write(underWay.shift()!), freeAt - now + delayMs)
  })
  const end = () => to.destroy()
  from.on('close', end)
  from.on('error', end)
}
