import { startSwift, swiftMissing } from '../../support/swift.ts';
import { s3ServerSuite } from './s3-server.ts';

s3ServerSuite(
  "OpenStack Swift's s3api",
  { skip: swiftMissing, conditionalPut: 'refused' },
  startSwift,
);
