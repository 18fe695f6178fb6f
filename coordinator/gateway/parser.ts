/**
 * Socket.IO's own parser, which ends the connection without a word where a frame is not a packet. This decoder turns
 * such a frame into an event that the gateway answers with a coded refusal.
 */
import { Decoder, Encoder, PacketType } from 'socket.io-parser'

/** No volunteer can send it: the name is not one of EVENTS. */
export const JUNK_EVENT = '\u0000junk'

class CodedDecoder extends Decoder {
  override add(frame: unknown): void {
    try {
      super.add(frame)
    } catch {
      // Half a packet with attachments may be under way: begin anew.
      this.destroy()
      this.emitReserved('decoded', { type: PacketType.EVENT, nsp: '/', data: [JUNK_EVENT] })
    }
  }
}

export const parser = { Encoder, Decoder: CodedDecoder }
