/**
 * What really goes over the wire between browsers and a coordinator: an HTTP proxy in front of it that writes down
 * every request and every WebSocket. Browsers report the sockets of their workers to nobody; here they pass by.
 *
 *     const wiretap = await tapInto(coordinator.url)
 *     await openTab(browser, `${wiretap.url}/`)
 *     expect(wiretap.sockets).toBe(0)
 */
import { createServer, type IncomingMessage, request } from 'node:http'
import { type AddressInfo, connect, type Socket } from 'node:net'

export interface Wiretap {
  readonly url: string
  /** "GET /assets/…", in the order they came, WebSockets not among them. */
  readonly requests: string[]
  /** WebSockets opened so far, and those of them that are open. */
  readonly sockets: { opened: number; open: number }
  close(): Promise<void>
}

export async function tapInto(target: string): Promise<Wiretap> {
  const { hostname, port } = new URL(target)
  const requests: string[] = []
  const sockets = { opened: 0, open: 0 }
  const connections = new Set<Socket>()
  const server = createServer((incoming, outgoing) => {
    requests.push(`${incoming.method} ${incoming.url}`)
    const { method, url: path, headers } = incoming
    const onward = request({ hostname, port, method, path, headers }, (answer) => {
      outgoing.writeHead(answer.statusCode!, answer.headers)
      answer.pipe(outgoing)
    })
    onward.on('error', () => outgoing.destroy())
    incoming.pipe(onward)
  })
  server.on('connection', (socket) => {
    connections.add(socket)
    socket.on('error', () => {}).on('close', () => connections.delete(socket))
  })
  server.on('upgrade', (incoming: IncomingMessage, near: Socket, head: Buffer) => {
    sockets.opened++
    sockets.open++
    near.on('close', () => sockets.open--)
    const far = connect(Number(port), hostname, () => {
      const lines = [`${incoming.method} ${incoming.url} HTTP/1.1`]
      for (let i = 0; i < incoming.rawHeaders.length; i += 2) {
        lines.push(`${incoming.rawHeaders[i]}: ${incoming.rawHeaders[i + 1]}`)
      }
      far.write(`${lines.join('\r\n')}\r\n\r\n`)
      far.write(head)
      far.pipe(near).pipe(far)
    })
    far.on('error', () => near.destroy()).on('close', () => near.destroy())
    near.on('close', () => far.destroy())
  })
  await new Promise<void>((resolve) => server.listen(0, resolve))
  return {
    url: `http://localhost:${(server.address() as AddressInfo).port}`,
    requests,
    sockets,
    async close() {
      const closed = new Promise((resolve) => server.close(resolve))
      for (const socket of connections) socket.destroy()
      await closed
    },
  }
}
