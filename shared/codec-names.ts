/** How vectors travel, see codec.ts. By themselves, for those who need no more of a RunSpec than this. */
export const CODECS = ['f32', 'f16', 'int8'] as const
export type CodecName = (typeof CODECS)[number]
