declare module 's3rver' {
  /** The part of it that the tests use. */
  export default class S3rver {
    constructor(options: { port: number; address: string; silent: boolean; directory: string });
    readonly store: {
      putObject(object: {
        readonly bucket: string;
        readonly key: string;
        readonly content: AsyncIterable<Uint8Array> | Uint8Array;
        readonly metadata: object;
      }): Promise<{ readonly size: number; readonly md5: string }>;
      getResourcePath(bucket: string, key: string, resource: string): string;
      putMetadata(bucket: string, key: string, metadata: object, md5: string): Promise<void>;
    };
    run(): Promise<{ readonly port: number }>;
    close(): Promise<void>;
  }
}
