/**
 * A coordinator in a process of its own, to be killed: says where it is and its operator token once it is up.
 *
 *     node --import tsx test/support/coordinator-process.ts PORT FOLDER
 */
import { startServer } from '../../coordinator/server.ts'

const [port, dataFolder] = process.argv.slice(2)
const { url, token } = await startServer({ port: Number(port), dataFolder, ownVolunteer: false })
console.log(`up ${url} ${token}`)
