import * as s3 from "aws-cdk-lib/aws-s3";
new s3.Bucket(this, "Photos", {
  cors: [{ allowedMethods: [s3.HttpMethods.GET], allowedOrigins: ["*"] }],
});
